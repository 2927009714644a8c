//! A line of a dump: names and values, in order.

use std::io::{BufWriter, Stdout, Write};

use serde_json::Value;

use crate::Failure;

/// How a line looks.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    /// `name=value name=value`
    Text,
    /// One JSON object.
    Json,
}

/// Names and values of one record.
#[derive(Default)]
pub struct Line(Vec<(&'static str, Value)>);

impl Line {
    /// One more value.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Line {
        self.0.push((name, value.into()));
        self
    }

    /// One more value, as it is printed.
    pub fn shown(self, name: &'static str, value: impl std::fmt::Display) -> Line {
        self.with(name, value.to_string())
    }

    /// One more value, if there is one.
    pub fn maybe(self, name: &'static str, value: Option<impl Into<Value>>) -> Line {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn text(&self) -> String {
        let pair = |(name, value): &(&str, Value)| match value {
            Value::String(text) if is_plain(text) => format!("{name}={text}"),
            value => format!("{name}={value}"),
        };
        self.0.iter().map(pair).collect::<Vec<_>>().join(" ")
    }

    fn json(&self) -> String {
        let pair = |(name, value): &(&str, Value)| format!("\"{name}\":{value}");
        let pairs: Vec<String> = self.0.iter().map(pair).collect();
        format!("{{{}}}", pairs.join(","))
    }
}

/// Can it stand without quotes?
fn is_plain(text: &str) -> bool {
    let special = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '=');
    !text.is_empty() && !text.contains(special)
}

/// Where lines go.
pub struct Out {
    format: Format,
    to: BufWriter<Stdout>,
    sound: bool,
}

impl Out {
    /// To standard output.
    pub fn new(format: Format) -> Out {
        Out {
            format,
            to: BufWriter::new(std::io::stdout()),
            sound: true,
        }
    }

    /// Prints a line; whether somebody still reads.
    pub fn line(&mut self, line: &Line) -> Result<bool, Failure> {
        let text = match self.format {
            Format::Text => line.text(),
            Format::Json => line.json(),
        };
        still_read(writeln!(self.to, "{text}"))
    }

    /// Prints what is damaged.
    pub fn damage(&mut self, line: Line, error: impl std::fmt::Display) -> Result<bool, Failure> {
        self.sound = false;
        self.line(&line.shown("damage", error))
    }

    /// Writes the rest; whether nothing was damaged.
    pub fn end(mut self) -> Result<bool, Failure> {
        still_read(self.to.flush())?;
        Ok(self.sound)
    }
}

/// A reader that has seen enough (`| head`) is no error.
fn still_read(written: std::io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart_in_both_forms() {
        let line = Line::default()
            .with("group", 3)
            .with("kind", "entry")
            .with("role", "two words")
            .with("none", "")
            .with("row", serde_json::json!({"id": 1}));
        assert_eq!(
            line.text(),
            r#"group=3 kind=entry role="two words" none="" row={"id":1}"#
        );
        assert_eq!(
            line.json(),
            r#"{"group":3,"kind":"entry","role":"two words","none":"","row":{"id":1}}"#
        );
    }
}
