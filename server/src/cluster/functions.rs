//! `freehold.alter_owner(...)` and `freehold.claim(...)`: what an owner wants of its replicas.

use std::sync::Arc;

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
use super::ask::Ask;

/// Between two looks at whether it is done, in microseconds.
const LOOK_MICROS: u64 = 10_000;
/// The most voters that an owner can have.
const REPLICAS_MAX: i32 = 7;

/// Both of them.
pub fn functions(cluster: &Arc<Cluster>) -> Vec<Arc<dyn SystemFunction>> {
    vec![
        Arc::new(AlterOwner::new(cluster)),
        Arc::new(Claim::new(cluster)),
    ]
}

const COLUMNS: &[SystemColumn] = &[SystemColumn {
    name: "position",
    ty: Type::PG_LSN,
    not_null: true,
}];

/// `freehold.alter_owner(owner, replicas, regions)`.
struct AlterOwner {
    cluster: Arc<Cluster>,
    arguments: [Argument; 3],
}

impl AlterOwner {
    fn new(cluster: &Arc<Cluster>) -> AlterOwner {
        let argument = |name, ty, default| Argument { name, ty, default };
        AlterOwner {
            cluster: cluster.clone(),
            arguments: [
                argument("owner", Type::TEXT, None),
                argument("replicas", Type::INT4, Some(Datum::Null)),
                argument("regions", Type::TEXT_ARRAY, Some(Datum::Null)),
            ],
        }
    }
}

impl SystemFunction for AlterOwner {
    fn name(&self) -> (&str, &str) {
        ("freehold", "alter_owner")
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
        let [owner, replicas, regions] = arguments else {
            return Err(Error::internal("freehold.alter_owner takes three arguments").into());
        };
        let group = group_of(cx.catalog, cx.role, owner)?;
        let replicas = match replicas {
            Datum::Int4(n) if (1..=REPLICAS_MAX).contains(n) && n % 2 == 1 => Some(*n as u32),
            Datum::Int4(_) => {
                let text = format!("replicas must be an odd number from 1 to {REPLICAS_MAX}");
                return Err(Error::new(state::INVALID_PARAMETER_VALUE, text).into());
            }
            _ => None,
        };
        let ask = Ask::Alter {
            group: group.0,
            replicas,
            regions: names(regions)?,
        };
        Ok(Box::new(Asked::begin(&self.cluster, ask)))
    }
}

/// `freehold.claim(owner, nodes)`.
struct Claim {
    cluster: Arc<Cluster>,
    arguments: [Argument; 2],
}

impl Claim {
    fn new(cluster: &Arc<Cluster>) -> Claim {
        let argument = |name, ty, default| Argument { name, ty, default };
        Claim {
            cluster: cluster.clone(),
            arguments: [
                argument("owner", Type::TEXT, None),
                argument("nodes", Type::INT4, Some(Datum::Int4(1))),
            ],
        }
    }
}

impl SystemFunction for Claim {
    fn name(&self) -> (&str, &str) {
        ("freehold", "claim")
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
        let [owner, nodes] = arguments else {
            return Err(Error::internal("freehold.claim takes two arguments").into());
        };
        let group = group_of(cx.catalog, cx.role, owner)?;
        let count = match nodes {
            Datum::Int4(count) if *count > 0 => *count as u32,
            _ => {
                let text = "nodes must be greater than zero";
                return Err(Error::new(state::INVALID_PARAMETER_VALUE, text).into());
            }
        };
        let group = group.0;
        Ok(Box::new(Asked::begin(
            &self.cluster,
            Ask::Claim { group, count },
        )))
    }
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

/// A question to the directory's leader, and its answer.
struct Asked {
    answer: Arc<Mutex<Option<std::result::Result<Position, String>>>>,
    told: bool,
}

impl Asked {
    fn begin(cluster: &Arc<Cluster>, ask: Ask) -> Asked {
        let answer: Arc<Mutex<Option<_>>> = Arc::default();
        let (cluster, tell) = (cluster.clone(), answer.clone());
        cluster.sql.clone().spawn(async move {
            let answer = cluster.ask_directory_leader(&ask).await;
            *tell.lock() = Some(answer);
        });
        Asked {
            answer,
            told: false,
        }
    }
}

impl RowSource for Asked {
    fn next(&mut self, cx: &mut ExecCx<'_>) -> std::result::Result<Option<Vec<Datum>>, Stop> {
        if self.told {
            return Ok(None);
        }
        match self.answer.lock().take() {
            Some(Ok(position)) => {
                self.told = true;
                Ok(Some(vec![Datum::Lsn(position.0)]))
            }
            Some(Err(why)) => Err(Error::new(
                state::CANNOT_CONNECT_NOW,
                "the directory can't be written now",
            )
            .detail(format!("It said: {why}."))
            .into()),
            None => {
                let now = cx.transaction.engine().clock().unix_micros();
                Err(Stop::Pause(Wait::Until(now + LOOK_MICROS)))
            }
        }
    }
}
