//! SQL's reports as the wire sends them.

use wire::{ErrorFields, Severity};

/// An error in the client's words.
pub fn fields(severity: Severity, error: &sql::Error) -> ErrorFields {
    let report = &error.0;
    ErrorFields {
        severity,
        sqlstate: report.state.as_str().into(),
        message: report.message.clone(),
        detail: report.detail.clone(),
        hint: report.hint.clone(),
        position: report.position,
        context: report.context.clone(),
        schema: report.schema.clone(),
        table: report.table.clone(),
        column: report.column.clone(),
        data_type: report.data_type.clone(),
        constraint: report.constraint.clone(),
        routine: report.routine.map(str::to_owned),
        ..ErrorFields::default()
    }
}

/// NOTICE, WARNING, ...
pub fn severity(name: &str) -> Severity {
    match name {
        "WARNING" => Severity::Warning,
        "INFO" => Severity::Info,
        "LOG" => Severity::Log,
        "DEBUG" => Severity::Debug,
        _ => Severity::Notice,
    }
}

/// A column of RowDescription.
pub fn field(field: &sql::session::Field) -> wire::Field {
    wire::Field {
        name: field.name.clone(),
        table_oid: field.table,
        column: field.number,
        type_oid: field.type_oid,
        type_size: field.type_length,
        type_modifier: field.modifier,
        format: wire::Format::from_code(field.format).unwrap_or(wire::Format::Text),
    }
}
