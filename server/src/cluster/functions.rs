//! `freehold.alter_owner(...)` and `freehold.claim(...)`: what an owner wants of its replicas.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use sql::catalog::{Catalog, RoleId};
use sql::exec::ExecCx;
use sql::plan::{Argument, RowSource, SystemFunction};
use sql::system::SystemColumn;
use sql::transaction::{Stop, Wait};
use sql::types::{Datum, Type};
use sql::{Error, Result, state};
use storage::{GroupId, Position};

use super::Cluster;
use super::ask::{Ask, Remark, Weight};

/// Between two looks at whether it is done, in microseconds.
const LOOK_MICROS: u64 = 10_000;
/// Answers that nobody comes for are kept for so long.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// The most voters that an owner can have.
const REPLICAS_MAX: i32 = 7;

/// Both of them.
pub fn functions(cluster: &Arc<Cluster>) -> Vec<Arc<dyn SystemFunction>> {
    let argument = |name, ty, default| Argument { name, ty, default };
    let function = |name, wishes: Vec<Argument>, ask| -> Arc<dyn SystemFunction> {
        let owner = argument("owner", Type::TEXT, None);
        Arc::new(OwnersWish {
            cluster: cluster.clone(),
            name,
            arguments: std::iter::once(owner).chain(wishes).collect(),
            ask,
        })
    };
    let replicas = argument("replicas", Type::INT4, Some(Datum::Null));
    let regions = argument("regions", Type::TEXT_ARRAY, Some(Datum::Null));
    let nodes = argument("nodes", Type::INT4, Some(Datum::Int4(1)));
    vec![
        function("alter_owner", vec![replicas, regions], alter),
        function("claim", vec![nodes], claim),
    ]
}

const COLUMNS: &[SystemColumn] = &[SystemColumn {
    name: "position",
    ty: Type::PG_LSN,
    not_null: true,
}];

/// A function whose first argument names an owner.
struct OwnersWish {
    cluster: Arc<Cluster>,
    name: &'static str,
    arguments: Vec<Argument>,
    /// The question for the owner's group, from the other arguments.
    ask: fn(u32, &[Datum]) -> Result<Ask>,
}

impl SystemFunction for OwnersWish {
    fn name(&self) -> (&str, &str) {
        ("freehold", self.name)
    }

    fn arguments(&self) -> &[Argument] {
        &self.arguments
    }

    fn columns(&self) -> &[SystemColumn] {
        COLUMNS
    }

    fn open(
        &self,
        arguments: &[Datum],
        cx: &mut ExecCx<'_>,
    ) -> std::result::Result<Box<dyn RowSource>, Stop> {
        let Some((owner, wishes)) = arguments.split_first() else {
            return Err(too_few().into());
        };
        let group = group_of(cx.catalog, cx.role, owner)?;
        self.cluster.put((self.ask)(group.0, wishes)?, cx)
    }
}

/// `freehold.alter_owner(owner, replicas, regions)`.
fn alter(group: u32, wishes: &[Datum]) -> Result<Ask> {
    let [replicas, regions] = wishes else {
        return Err(too_few());
    };
    let replicas = match replicas {
        Datum::Int4(n) if (1..=REPLICAS_MAX).contains(n) && n % 2 == 1 => Some(*n as u32),
        Datum::Int4(_) => {
            let text = format!("replicas must be an odd number from 1 to {REPLICAS_MAX}");
            return Err(Error::new(state::INVALID_PARAMETER_VALUE, text));
        }
        _ => None,
    };
    let regions = names(regions)?;
    Ok(Ask::Alter {
        group,
        replicas,
        regions,
    })
}

/// `freehold.claim(owner, nodes)`.
fn claim(group: u32, wishes: &[Datum]) -> Result<Ask> {
    match wishes {
        [Datum::Int4(nodes)] if *nodes > 0 => Ok(Ask::Claim {
            group,
            count: *nodes as u32,
        }),
        _ => Err(Error::new(
            state::INVALID_PARAMETER_VALUE,
            "nodes must be greater than zero",
        )),
    }
}

fn too_few() -> Error {
    Error::internal("a function got fewer arguments than it has")
}

/// The owner's group, if the role may say where it is.
fn group_of(catalog: &Catalog, role: RoleId, owner: &Datum) -> Result<GroupId> {
    let Datum::Text(name) = owner else {
        return Err(Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            "owner must not be null",
        ));
    };
    let owner = catalog.find_role(name)?.id;
    if !catalog.has_role(role, owner) {
        return Err(Error::new(
            state::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for role \"{name}\""),
        ));
    }
    catalog.group_of(owner).ok_or_else(|| {
        Error::new(
            state::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("role \"{name}\" has no tables yet"),
        )
        .hint("Its group is made with its first table.")
    })
}

fn names(regions: &Datum) -> Result<Option<Vec<String>>> {
    let Datum::Array(array) = regions else {
        return Ok(None);
    };
    let name = |value: &Datum| match value {
        Datum::Text(text) => Ok(text.to_string()),
        _ => Err(Error::new(
            state::NULL_VALUE_NOT_ALLOWED,
            "regions must not contain nulls",
        )),
    };
    array
        .values
        .iter()
        .map(name)
        .collect::<Result<_>>()
        .map(Some)
}

/// Questions to the directory's leader, and their answers, by the statement that asks: it is run
/// again until its answer has come.
#[derive(Default)]
pub struct Questions(Mutex<HashMap<(RoleId, i64, Bytes), Question>>);

/// The directory's position with it, and what is to be said of it.
type Answer = std::result::Result<(Position, Option<Remark>), String>;

struct Question {
    begun: Instant,
    answer: Option<Answer>,
}

impl Cluster {
    /// The answer as a row, once it has come.
    fn put(
        self: &Arc<Cluster>,
        ask: Ask,
        cx: &mut ExecCx<'_>,
    ) -> std::result::Result<Box<dyn RowSource>, Stop> {
        // Asked once more, another node would be claimed.
        cx.transaction.act();
        let key = (cx.login, cx.evaluation.statement_start, ask.encode());
        let mut questions = self.questions.0.lock();
        if let Some(answer) = questions.get_mut(&key).and_then(|q| q.answer.take()) {
            questions.remove(&key);
            return match answer {
                Ok((position, remark)) => {
                    say(remark, cx)?;
                    Ok(Box::new(One(Some(position))))
                }
                Err(why) => Err(Error::new(
                    state::CANNOT_CONNECT_NOW,
                    "the directory can't be written now",
                )
                .detail(format!("It said: {why}."))
                .into()),
            };
        }
        if !questions.contains_key(&key) {
            // Whoever was cancelled does not come for the answer.
            questions.retain(|_, question| question.begun.elapsed() < FORGET_AFTER);
            let question = Question {
                begun: Instant::now(),
                answer: None,
            };
            questions.insert(key.clone(), question);
            let cluster = self.clone();
            self.sql.spawn(async move {
                let answer = cluster.ask_directory_leader(&ask).await;
                if let Some(question) = cluster.questions.0.lock().get_mut(&key) {
                    question.answer = Some(answer);
                }
            });
        }
        let now = cx.transaction.engine().clock().unix_micros();
        Err(Stop::Wait(Wait::Until(now + LOOK_MICROS)))
    }
}

/// Tells the client. Errors: nothing was done.
fn say(remark: Option<Remark>, cx: &mut ExecCx<'_>) -> Result<()> {
    let Some(remark) = remark else {
        return Ok(());
    };
    let state = match remark.weight {
        Weight::Notice => state::SUCCESSFUL_COMPLETION,
        Weight::Warning => state::WARNING,
        Weight::Error => state::OBJECT_NOT_IN_PREREQUISITE_STATE,
    };
    let mut said = Error::new(state, remark.message);
    if !remark.detail.is_empty() {
        said = said.detail(remark.detail);
    }
    if !remark.hint.is_empty() {
        said = said.hint(remark.hint);
    }
    match remark.weight {
        Weight::Error => Err(said),
        Weight::Notice | Weight::Warning => {
            cx.transaction.notice(said);
            Ok(())
        }
    }
}

/// One position, as one row.
struct One(Option<Position>);

impl RowSource for One {
    fn next(&mut self, _cx: &mut ExecCx<'_>) -> std::result::Result<Option<Vec<Datum>>, Stop> {
        Ok(self.0.take().map(|position| vec![Datum::Lsn(position.0)]))
    }
}
