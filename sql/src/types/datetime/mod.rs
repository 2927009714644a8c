//! Dates, times and intervals: PostgreSQL's text forms.

pub mod zone;

use crate::error::{Error, Result};
use crate::types::{FormatSettings, Interval, IntervalStyle};

macro_rules! later {
    ($($name:ident -> $t:ty;)*) => {$(
        /// Reads the text form.
        pub fn $name(text: &str, format: &FormatSettings) -> Result<$t> {
            let _ = (text, format);
            Err(Error::unsupported("date and time input"))
        }
    )*};
}

later! { read_date -> i32; read_time -> i64; read_timetz -> (i64, i32); read_timestamp -> i64; read_timestamptz -> i64; }

/// Reads the text form.
pub fn read_interval(text: &str, modifier: i32, format: &FormatSettings) -> Result<Interval> {
    let _ = (text, modifier, format);
    Err(Error::unsupported("interval input"))
}

/// Writes the text form.
pub fn write_date(value: i32, format: &FormatSettings, out: &mut Vec<u8>) {
    let _ = (value, format, out);
}
/// Writes the text form.
pub fn write_time(value: i64, out: &mut Vec<u8>) {
    let _ = (value, out);
}
/// Writes the text form.
pub fn write_timetz(value: i64, west: i32, format: &FormatSettings, out: &mut Vec<u8>) {
    let _ = (value, west, format, out);
}
/// Writes the text form.
pub fn write_timestamp(value: i64, format: &FormatSettings, out: &mut Vec<u8>) {
    let _ = (value, format, out);
}
/// Writes the text form.
pub fn write_timestamptz(value: i64, format: &FormatSettings, out: &mut Vec<u8>) {
    let _ = (value, format, out);
}
/// Writes the text form.
pub fn write_interval(value: &Interval, style: IntervalStyle, out: &mut Vec<u8>) {
    let _ = (value, style, out);
}
