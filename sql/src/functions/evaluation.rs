//! What a function may ask of its surroundings: settings, times, randomness, the session and the
//! catalog. Nothing in `functions` reads a clock or a random source by itself.

use std::sync::Arc;

use storage::GroupId;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::functions::{Resolved, Rows};
use crate::types::{Datum, FormatSettings};

/// The surroundings of an expression while it is evaluated.
pub struct Evaluation<'a> {
    /// What text forms depend on; holds the transaction's start.
    pub format: &'a FormatSettings,
    /// `statement_timestamp()`: microseconds since 2000-01-01 UTC.
    pub statement_start: i64,
    /// The session and the catalog.
    pub environment: &'a dyn Environment,
}

impl<'a> Evaluation<'a> {
    /// Surroundings for one statement.
    pub fn new(
        format: &'a FormatSettings,
        statement_start: i64,
        environment: &'a dyn Environment,
    ) -> Evaluation<'a> {
        Evaluation {
            format,
            statement_start,
            environment,
        }
    }
}

/// The functions of the session and the catalog that are not computed from their arguments alone.
pub trait System {
    /// Answers the scalar function `resolved.function.name` (`pg_get_expr`, `has_table_privilege`,
    /// `pg_advisory_lock`, `set_config`, ...). Arguments are in declared order, defaults filled in.
    /// The source name (`resolved.function.source`) tells overloads apart.
    ///
    /// # Errors
    /// What the function raises; 0A000 for one that is not there.
    fn system(
        &self,
        evaluation: &mut Evaluation<'_>,
        resolved: &Resolved,
        arguments: &[Datum],
    ) -> Result<Datum> {
        let _ = (evaluation, arguments);
        Err(Error::unsupported(format!(
            "function {}",
            resolved.function.signature()
        )))
    }

    /// Answers a set-returning one (`pg_get_keywords`, `pg_show_all_settings`, ...): one record
    /// (or value) per row.
    ///
    /// # Errors
    /// What the function raises; 0A000 for one that is not there.
    fn system_rows(
        &self,
        evaluation: &mut Evaluation<'_>,
        resolved: &Resolved,
        arguments: &[Datum],
    ) -> Result<Rows> {
        let _ = (evaluation, arguments);
        Err(Error::unsupported(format!(
            "function {}",
            resolved.function.signature()
        )))
    }
}

/// How much the functions of a statement have left to be done at its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    /// `set_config`.
    pub settings: usize,
    /// `pg_notify`.
    pub notifications: usize,
    /// `pg_logical_emit_message`.
    pub messages: usize,
    /// RAISE.
    pub raised: usize,
}

impl Left {
    /// The same, whatever was raised.
    #[must_use]
    pub fn but_raised(self) -> Left {
        Left {
            raised: usize::MAX,
            ..self
        }
    }
}

/// What the session supplies to every evaluation.
pub trait Environment: System {
    /// The messages (`pg_logical_emit_message`: type, payload) of what was run since this was asked last, for
    /// who keeps them for later. Of its other effects nobody is told.
    fn take_messages(&self) -> Vec<(String, bytes::Bytes)> {
        Vec::new()
    }

    /// `clock_timestamp()`: microseconds since 2000-01-01 UTC, now.
    fn clock(&self) -> i64;

    /// 64 random bits: what `gen_random_uuid` uses.
    fn random_bits(&self) -> u64;

    /// `random()`: uniform in `[0, 1)`; the session's generator, which `setseed` seeds.
    fn random(&self) -> f64 {
        (self.random_bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `setseed(seed)`, -1 to 1.
    fn set_seed(&self, seed: f64);

    /// The newest catalog, perhaps newer than the statement's; `None` where there is no node.
    fn newest_catalog(&self) -> Option<Arc<Catalog>> {
        None
    }

    /// One of these groups of which no rows may be given now
    /// ([`crate::cluster::Cluster::doubts`]).
    fn doubts(&self, _groups: &[GroupId]) -> Option<GroupId> {
        None
    }

    /// The statement goes to where the group is led, and runs again there.
    ///
    /// # Errors
    /// If it is not led here.
    fn go_home(&self, _group: GroupId) -> Result<()> {
        Ok(())
    }

    /// Whose session this is and with what settings, for one that stands in for it at another
    /// node.
    fn asker(&self) -> Vec<u8> {
        Vec::new()
    }

    /// `current_user`.
    fn current_user(&self) -> &str;

    /// `session_user`.
    fn session_user(&self) -> &str;

    /// `current_database()`.
    fn current_database(&self) -> &str;

    /// The schemas of search_path that exist, in order; with the implicit ones when asked.
    fn current_schemas(&self, implicit: bool) -> Vec<String>;

    /// `current_setting(name)`; `None` = no such setting.
    fn setting(&self, name: &str) -> Option<String>;

    /// The stored value of a setting, in its unit (`pg_settings.setting`).
    fn raw_setting(&self, name: &str) -> Option<String> {
        self.setting(name)
    }

    /// Rows of a system relation that are this session's own (`pg_cursors`,
    /// `pg_prepared_statements`).
    fn session_rows(&self, relation: &str) -> Vec<Vec<Datum>> {
        let _ = relation;
        Vec::new()
    }

    /// Checked now and then by long computations and waits.
    ///
    /// # Errors
    /// 57014 when the statement was cancelled or timed out.
    fn check_interrupt(&self) -> Result<()> {
        Ok(())
    }

    /// Tells the client something when the statement is over (RAISE).
    ///
    /// # Errors
    /// 54000 when that becomes too much.
    fn raise(&self, severity: &'static str, notice: Error) -> Result<()> {
        let _ = (severity, notice);
        Ok(())
    }

    /// How much is left to be done at the statement's end so far.
    fn left(&self) -> Left {
        Left::default()
    }

    /// Takes back what came later.
    fn take_back(&self, left: Left) {
        let _ = left;
    }

    /// Is the error under way no error, but a function's way to say that the statement must stop
    /// and run again?
    fn is_stopping(&self) -> bool {
        false
    }

    /// Which call of a function that must not be called twice this is, in the present attempt of the
    /// statement: from 0 on.
    fn next_call(&self) -> u32 {
        0
    }

    /// A trigger's function begins (1) or is over (-1): `pg_trigger_depth`.
    fn trigger_depth(&self, change: i32) {
        let _ = change;
    }

    /// The same for who goes on without the session.
    fn interrupt(&self) -> crate::changes::Interrupt {
        Arc::new(|| Ok(()))
    }
}

/// An environment without session and catalog: for constant folding and tests. Its clock stands
/// and its randomness is a fixed sequence.
#[derive(Debug, Default)]
pub struct Bare {
    state: std::sync::atomic::AtomicU64,
}

impl System for Bare {}

impl Environment for Bare {
    fn clock(&self) -> i64 {
        0
    }

    fn random_bits(&self) -> u64 {
        use std::sync::atomic::Ordering;
        // SplitMix64: enough for tests.
        let step = 0x9E37_79B9_7F4A_7C15u64;
        let mut z = self
            .state
            .fetch_add(step, Ordering::Relaxed)
            .wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn set_seed(&self, seed: f64) {
        self.state
            .store(seed.to_bits(), std::sync::atomic::Ordering::Relaxed);
    }

    fn current_user(&self) -> &str {
        "postgres"
    }

    fn session_user(&self) -> &str {
        "postgres"
    }

    fn current_database(&self) -> &str {
        "postgres"
    }

    fn current_schemas(&self, implicit: bool) -> Vec<String> {
        let implied = implicit.then(|| "pg_catalog".to_owned());
        implied.into_iter().chain(["public".to_owned()]).collect()
    }

    fn setting(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }
}
