//! The small nouns that rows are described with.

/// How one value is written: as PostgreSQL's text or as its binary form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// What `::text` would print.
    #[default]
    Text,
    /// What the type's send function writes.
    Binary,
}

impl Format {
    /// From a format code of Bind. None for a code that doesn't exist (22023 to the client).
    pub fn from_code(code: i16) -> Option<Format> {
        match code {
            0 => Some(Format::Text),
            1 => Some(Format::Binary),
            _ => None,
        }
    }

    /// The format code: 0 or 1.
    pub fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }
}

/// One column of RowDescription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The column's name as the client sees it.
    pub name: String,
    /// OID of the table it comes from, 0 if it is computed.
    pub table_oid: u32,
    /// Its attribute number there, 0 if it is computed.
    pub column: i16,
    /// OID of its type.
    pub type_oid: u32,
    /// `pg_type.typlen`: bytes, or -1 for variable length.
    pub type_size: i16,
    /// `pg_attribute.atttypmod`: -1 if there is none.
    pub type_modifier: i32,
    /// How its values are sent. Text where it isn't known yet (Describe of a statement).
    pub format: Format,
}

impl Field {
    /// A computed column in text format.
    pub fn computed(name: impl Into<String>, type_oid: u32, type_size: i16) -> Field {
        Field {
            name: name.into(),
            table_oid: 0,
            column: 0,
            type_oid,
            type_size,
            type_modifier: -1,
            format: Format::Text,
        }
    }
}

/// The state that ReadyForQuery tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    Transaction,
    /// In a failed transaction block: only ROLLBACK is accepted.
    Failed,
}

impl TransactionStatus {
    /// From the byte of ReadyForQuery.
    pub fn from_code(code: u8) -> Option<TransactionStatus> {
        match code {
            b'I' => Some(TransactionStatus::Idle),
            b'T' => Some(TransactionStatus::Transaction),
            b'E' => Some(TransactionStatus::Failed),
            _ => None,
        }
    }

    /// The byte of ReadyForQuery.
    pub fn code(self) -> u8 {
        match self {
            TransactionStatus::Idle => b'I',
            TransactionStatus::Transaction => b'T',
            TransactionStatus::Failed => b'E',
        }
    }
}
