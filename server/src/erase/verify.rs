//! `freehold.verify_erased(table, key)`: what every node still has of a row, by the row's key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sql::catalog::{RoleId, Table};
use sql::exec::ExecCx;
use sql::plan::{Argument, RowSource, SystemFunction};
use sql::system::SystemColumn;
use sql::transaction::{Stop, Wait};
use sql::types::{Datum, Type};
use sql::{Error, Result, state};
use storage::GroupId;
use tokio::task::{JoinSet, block_in_place};

use crate::cluster::Cluster;
use crate::cluster::ask::{Ask, Told};

/// Between two looks at whether all have answered, in microseconds.
const LOOK_MICROS: u64 = 10_000;
/// A node goes over its whole journal meanwhile.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// A question to which there is no answer after so long is asked again.
const ASK_TIME_MAX: Duration = Duration::from_secs(600);
/// Answers are kept for so long after somebody has come for them: a statement may ask for several rows, and
/// is run again for each.
const FORGET_AFTER: Duration = Duration::from_secs(120);

/// The function.
pub fn function(cluster: &Arc<Cluster>) -> Arc<dyn SystemFunction> {
    let argument = |name, ty| Argument {
        name,
        ty,
        default: None,
    };
    Arc::new(VerifyErased {
        cluster: cluster.clone(),
        arguments: vec![
            argument("table_name", Type::TEXT),
            argument("key", Type::JSONB),
        ],
        asked: Arc::default(),
    })
}

const fn column(name: &'static str, ty: Type, not_null: bool) -> SystemColumn {
    SystemColumn { name, ty, not_null }
}

const COLUMNS: &[SystemColumn] = &[
    column("node", Type::INT4, true),
    column("images", Type::INT8, false),
    column("rows", Type::INT4, false),
    column("erased", Type::BOOL, false),
];

/// By node; `None`: it does not answer.
type Answers = Vec<(u32, Option<(u64, u32)>)>;

/// The statement that asks, by its role and begin, and the row.
type Question = (RoleId, i64, GroupId, u32, Vec<u8>);

/// When somebody came for it, and the answer. The statement is run again until that has come.
type Asked = Mutex<HashMap<Question, (Instant, Option<Answers>)>>;

struct VerifyErased {
    cluster: Arc<Cluster>,
    arguments: Vec<Argument>,
    asked: Arc<Asked>,
}

impl SystemFunction for VerifyErased {
    fn name(&self) -> (&str, &str) {
        ("freehold", "verify_erased")
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
        let [Datum::Text(name), Datum::Jsonb(key)] = arguments else {
            let error = Error::new(
                state::NULL_VALUE_NOT_ALLOWED,
                "table_name and key must not be null",
            );
            return Err(error.into());
        };
        let table = table_of(name, cx)?;
        let key = sql::changes::stored_key(&table, key)?;
        let (group, tree) = (table.group, table.tree);
        let start = cx.evaluation.statement_start;
        let question = (cx.login, start, group, tree, key.clone());
        let mut asked = self.asked.lock();
        if let Some((used, Some(answers))) = asked.get_mut(&question) {
            *used = Instant::now();
            return Ok(Box::new(Rows(answers.clone().into_iter())));
        }
        // Every node goes over its whole journal: one question after the other.
        asked.retain(|_, (used, answers)| match answers {
            Some(_) => used.elapsed() < FORGET_AFTER,
            None => used.elapsed() < ASK_TIME_MAX,
        });
        let open = |(_, answers): &(Instant, Option<Answers>)| answers.is_none();
        if !asked.values().any(open) {
            asked.insert(question.clone(), (Instant::now(), None));
            let (cluster, answers) = (self.cluster.clone(), self.asked.clone());
            // Of a table that moves, or has moved, others' copies have had the row, too.
            let mut places: Vec<_> = cx.catalog.trees_elsewhere(&table).into_iter().collect();
            places.push((group, tree));
            self.cluster.sql().spawn(async move {
                let told = ask_all(&cluster, &places, &key).await;
                if let Some((_, answer)) = answers.lock().get_mut(&question) {
                    *answer = Some(told);
                }
            });
        }
        let now = cx.transaction.engine().clock().unix_micros();
        Err(Stop::Wait(Wait::Until(now + LOOK_MICROS)))
    }
}

/// The owner's table.
fn table_of(name: &str, cx: &ExecCx<'_>) -> Result<Arc<Table>> {
    let parts: Vec<&str> = name.split('.').collect();
    let table = cx.catalog.resolve_table(&parts, cx.path, cx.role)?;
    match cx.catalog.has_role(cx.role, table.owner) {
        true => Ok(table),
        false => Err(Error::new(
            state::INSUFFICIENT_PRIVILEGE,
            format!("must be owner of table {}", table.name),
        )),
    }
}

async fn ask_all(cluster: &Arc<Cluster>, places: &[(GroupId, u32)], key: &[u8]) -> Answers {
    let mut asking = JoinSet::new();
    for node in cluster.others() {
        let (cluster, places, key) = (cluster.clone(), places.to_vec(), key.to_vec());
        asking.spawn(async move {
            let mut all = Some((0, 0));
            for (GroupId(group), tree) in places {
                let Some(found) = all.filter(|_| cluster.is_live(node)) else {
                    return (node, None);
                };
                let key = key.clone();
                let ask = Ask::Traces { group, tree, key };
                let told = cluster.ask(node, &ask, ANSWER_TIME_MAX).await.ok();
                all = told.and_then(|told| with(found, told));
            }
            (node, all)
        });
    }
    let own = block_in_place(|| {
        let mut told = places.iter();
        told.try_fold((0, 0), |found, (group, tree)| {
            with(found, cluster.say_traces(*group, *tree, key))
        })
    });
    let mut answers = vec![(cluster.me(), own)];
    while let Some(told) = asking.join_next().await {
        // One that panicked was logged.
        answers.extend(told);
    }
    answers.sort_unstable();
    answers
}

/// What was found so far, with what a node tells of one tree more; `None`: it can't tell now.
fn with((images, rows): (u64, u32), told: Told) -> Option<(u64, u32)> {
    match told {
        Told::Traces { images: i, rows: r } => Some((images + i, rows + r)),
        _ => None,
    }
}

impl Cluster {
    /// What this node has of a row.
    pub(crate) fn say_traces(&self, id: GroupId, tree: u32, key: &[u8]) -> Told {
        let not_now = |why: &str| Told::NotNow { why: why.into() };
        let (Some(engine), Some(journal)) = (self.engine(), self.journal()) else {
            return not_now("the node is starting");
        };
        // It goes over the whole journal: for one row after the other.
        let _one = self.verifying.lock();
        let group = engine.groups().get(id);
        if group.as_ref().is_some_and(|group| !group.ready()) {
            return not_now("the node has not applied all yet that it had");
        }
        // With those that stood there before TRUNCATE or a rewrite.
        let catalog = engine.catalog();
        let table = catalog.table_of_tree(id, tree);
        let mut trees = table.map_or_else(Vec::new, |table| catalog.trees_ever(id, table));
        if !trees.contains(&tree) {
            trees.push(tree);
        }
        let table = table.and_then(|table| catalog.table_in(id, table));
        let rows = table.map_or(tree, |table| table.tree);
        let indexes = super::indexes(engine, id, rows).into_iter();
        let indexes = indexes.map(|index| (index, rows)).collect();
        let rows = group.map_or(Ok(0), |group| {
            let traces = trees.iter().map(|tree| group.traces(*tree, key));
            traces.sum::<storage::Result<u32>>()
        });
        match (
            raft::images_of_row(journal, id, &trees, &indexes, key),
            rows,
        ) {
            (Ok(images), Ok(rows)) => Told::Traces { images, rows },
            (Err(error), _) => not_now(&error.to_string()),
            (_, Err(error)) => not_now(&error.to_string()),
        }
    }
}

struct Rows(std::vec::IntoIter<(u32, Option<(u64, u32)>)>);

impl RowSource for Rows {
    fn next(&mut self, _cx: &mut ExecCx<'_>) -> std::result::Result<Option<Vec<Datum>>, Stop> {
        let row = |(node, found): (u32, Option<(u64, u32)>)| {
            let images = found.map(|(images, _)| i64::try_from(images).unwrap_or(i64::MAX));
            let rows = found.map(|(_, rows)| i32::try_from(rows).unwrap_or(i32::MAX));
            vec![
                Datum::Int4(i32::try_from(node).unwrap_or(i32::MAX)),
                images.map_or(Datum::Null, Datum::Int8),
                rows.map_or(Datum::Null, Datum::Int4),
                found.map_or(Datum::Null, |found| Datum::Bool(found == (0, 0))),
            ]
        };
        Ok(self.0.next().map(row))
    }
}
