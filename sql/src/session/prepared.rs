//! Prepared statements: text, tree, and the types that Describe reports.

use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

use crate::catalog::{Catalog, RoleId, SchemaId};
use crate::parse::{Parsed, Statement};
use crate::plan::{OutputColumn, Planned};
use crate::types::{Array, Datum, Type};
use crate::{Error, Result, state};

/// A plan with everything that it is good for.
pub(super) struct Fresh {
    pub catalog: Arc<Catalog>,
    pub role: RoleId,
    pub login: RoleId,
    pub path: Arc<[SchemaId]>,
    pub format: u64,
    pub planned: Arc<Planned>,
}

/// A prepared statement, by Parse or by PREPARE.
pub(super) struct Prepared {
    /// Its text, for the log and pg_prepared_statements.
    pub text: Arc<str>,
    /// The statements of the query string it came from, and which of them it is.
    pub parsed: Arc<[Parsed]>,
    /// Index into `parsed`; `None` = an empty query string.
    pub at: Option<usize>,
    /// For PREPARE: the statement within the statement.
    pub inner: Option<Statement>,
    /// Of one that came from another node: the statement, once it was read here.
    pub brought: Option<Box<OnceLock<Statement>>>,
    /// Types that the client declared.
    pub declared: Arc<[Type]>,
    /// All parameter types, inferred ones included.
    pub parameters: Arc<[Type]>,
    /// Made by PREPARE.
    pub from_sql: bool,
    /// Microseconds since 2000-01-01 UTC.
    pub created: i64,
    /// The columns that clients were told of, once it is prepared: it never answers with others.
    pub promised: Option<Arc<[OutputColumn]>>,
    /// Its last plan.
    pub fresh: Mutex<Option<Fresh>>,
}

static EMPTY: Statement = Statement::Empty;

impl Prepared {
    /// Its row of pg_prepared_statements.
    pub fn row(&self, name: &str) -> Vec<Datum> {
        let types = self.parameters.iter().map(|t| Datum::Oid(t.oid)).collect();
        let regtype = Type::new(crate::types::kind::oid::REGTYPE);
        vec![
            Datum::text(name),
            Datum::Text(Arc::clone(&self.text)),
            Datum::Timestamptz(self.created),
            Datum::array(Array::of(regtype, types)),
            Datum::Bool(self.from_sql),
            Datum::Int8(0),
            Datum::Int8(0),
        ]
    }

    /// 0A000 for a plan that answers with other columns than promised: the client would read rows
    /// as what they are not.
    pub fn keeps_promise(&self, planned: &Planned) -> Result<()> {
        let same = |a: &OutputColumn, b: &OutputColumn| a.name == b.name && a.ty == b.ty;
        let kept = self.promised.as_deref().is_none_or(|promised| {
            let now = &planned.columns;
            promised.len() == now.len() && promised.iter().zip(now).all(|(a, b)| same(a, b))
        });
        if kept {
            return Ok(());
        }
        let message = "cached plan must not change result type";
        // By the routine pgjdbc knows that it helps to prepare the statement again.
        Err(Error::new(state::FEATURE_NOT_SUPPORTED, message).routine("RevalidateCachedQuery"))
    }

    /// Reads the text of one that came from another node, before [`Prepared::statement`] is asked.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read(&self) -> Result<()> {
        let Some(brought) = self.brought.as_deref().filter(|b| b.get().is_none()) else {
            return Ok(());
        };
        let parsed = crate::parse::parse(&self.text)?.into_iter().next();
        let statement = match parsed.map(|p| p.statement) {
            None => Statement::Empty,
            Some(Statement::Prepare(prepare)) if self.from_sql => prepare.statement,
            Some(statement) => statement,
        };
        let _ = brought.set(statement);
        Ok(())
    }

    /// What it says.
    pub fn statement(&self) -> &Statement {
        if let Some(brought) = self.brought.as_deref() {
            return brought.get().unwrap_or(&EMPTY);
        }
        match (&self.inner, self.at) {
            (Some(inner), _) => inner,
            (None, Some(at)) => self.parsed.get(at).map_or(&EMPTY, |p| &p.statement),
            (None, None) => &EMPTY,
        }
    }
}
