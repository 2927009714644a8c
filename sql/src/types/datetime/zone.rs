//! Time zones.

/// A time zone.
#[derive(Clone, Debug, PartialEq)]
pub enum Zone {
    /// A zone of the IANA database.
    Named(chrono_tz::Tz),
    /// Seconds west of Greenwich, and the text that names it.
    Fixed {
        /// Seconds west of Greenwich.
        west: i32,
        /// The abbreviation to print.
        name: std::sync::Arc<str>,
    },
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone::Named(chrono_tz::Tz::UTC);
}
