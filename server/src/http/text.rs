//! Prometheus' text format, version 0.0.4: families of samples with help and type.

use std::fmt::{Display, Write as _};

use sql::meter::{Counted, LATENCY_BOUNDS_MICROS};

/// What an answer in this format is called.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the samples of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from the start of the process on.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counters by upper bound.
    Histogram,
}

/// A label and its value.
pub type Label<'a> = (&'static str, &'a str);

/// The text so far.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// Begins a family; its samples follow before the next one begins.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { text: self, name }
    }

    /// A family of one sample without labels.
    pub fn single(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        value: impl Display,
    ) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.0
    }

    fn push(&mut self, what: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(what)
            .expect("memory takes what is written");
    }
}

/// A family whose samples are being written.
pub struct Family<'a> {
    text: &'a mut Text,
    name: &'static str,
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// A histogram of latencies, in seconds.
    pub fn latencies(&mut self, labels: &[Label<'_>], counted: &Counted) {
        let mut count = 0;
        for (at, bucket) in counted.buckets.iter().enumerate() {
            count += bucket;
            let bound = LATENCY_BOUNDS_MICROS.get(at);
            let bound = bound.map_or_else(|| "+Inf".into(), |micros| seconds(*micros).to_string());
            self.line("_bucket", labels, Some(("le", &bound)), count);
        }
        self.line("_sum", labels, None, seconds(counted.micros));
        self.line("_count", labels, None, count);
    }

    fn line(
        &mut self,
        ending: &str,
        labels: &[Label<'_>],
        last: Option<Label<'_>>,
        value: impl Display,
    ) {
        self.text.push(format_args!("{}{ending}", self.name));
        for (at, (label, value)) in labels.iter().chain(last.as_ref()).enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.text
                .push(format_args!("{before}{label}=\"{}\"", escaped(value)));
        }
        let close = if labels.is_empty() && last.is_none() {
            ""
        } else {
            "}"
        };
        self.text.push(format_args!("{close} {value}\n"));
    }
}

/// Microseconds in seconds.
pub fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_may_hold_anything() {
        let mut text = Text::default();
        let mut family = text.family("freehold_x", Kind::Gauge, "X.");
        family.sample(&[("owner", "a\"b\\c\nd"), ("group", "1")], 2.5);
        family.sample(&[], u64::MAX);
        assert_eq!(
            text.finish(),
            "# HELP freehold_x X.\n# TYPE freehold_x gauge\n\
             freehold_x{owner=\"a\\\"b\\\\c\\nd\",group=\"1\"} 2.5\n\
             freehold_x 18446744073709551615\n"
        );
    }

    #[test]
    fn buckets_of_a_histogram_are_added_up() {
        let latencies = sql::meter::Latencies::default();
        latencies.note(40);
        latencies.note(20_000_000);
        let mut text = Text::default();
        let mut family = text.family("x_seconds", Kind::Histogram, "X.");
        family.latencies(&[("kind", "a")], &latencies.counted());
        let text = text.finish();
        assert!(
            text.contains("x_seconds_bucket{kind=\"a\",le=\"0.00005\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("x_seconds_bucket{kind=\"a\",le=\"10\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("x_seconds_bucket{kind=\"a\",le=\"+Inf\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("x_seconds_sum{kind=\"a\"} 20.00004\n"),
            "{text}"
        );
        assert!(text.ends_with("x_seconds_count{kind=\"a\"} 2\n"), "{text}");
    }
}
