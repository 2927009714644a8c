//! A failure in full: of a server's error the SQLSTATE, DETAIL and HINT, of others their causes.

use std::fmt::Write as _;

use tokio_postgres::error::DbError;

use crate::Failure;

/// What the person in front of the terminal needs to know.
pub fn explain(failure: &Failure) -> String {
    let server = failure
        .downcast_ref::<tokio_postgres::Error>()
        .and_then(tokio_postgres::Error::as_db_error);
    if let Some(error) = server {
        return told(error);
    }
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        // Some libraries repeat their cause in their own text.
        let said = error.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

/// An error as psql shows it.
pub fn told(error: &DbError) -> String {
    let (severity, code) = (error.severity(), error.code().code());
    let mut text = format!("{severity}:  {code}: {}", error.message());
    let rest = [
        ("DETAIL", error.detail()),
        ("HINT", error.hint()),
        ("CONTEXT", error.where_()),
    ];
    for (name, value) in rest {
        if let Some(value) = value {
            let _ = write!(text, "\n{name}:  {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it did not work")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once() {
        let disk = || std::io::Error::other("the disk is full");
        let failure: Failure = Box::new(Outer(disk()));
        assert_eq!(explain(&failure), "it did not work: the disk is full");
        let failure: Failure = Box::new(disk());
        assert_eq!(explain(&failure), "the disk is full");
    }
}
