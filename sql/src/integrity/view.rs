//! `freehold.intents`: keys that owners are about to remove and others reference, a row for each owner that
//! was asked.

use std::ops::Bound;
use std::sync::{Arc, LazyLock, Weak};

use storage::{Direction, Group, GroupId, system};

use super::rows::{self, Answer, Intent, answer_key};
use crate::Result;
use crate::catalog::Catalog;
use crate::engine::{Engine, since_2000};
use crate::system::{SystemColumn, SystemCx, SystemRelation, SystemRow, SystemRows};
use crate::types::{Datum, Type};

static COLUMNS: LazyLock<Vec<SystemColumn>> = LazyLock::new(|| {
    let column = |name, ty, not_null| SystemColumn { name, ty, not_null };
    vec![
        column("owner", Type::NAME, true),
        column("table_name", Type::NAME, false),
        column("transaction", Type::INT8, true),
        column("asked", Type::NAME, false),
        column("state", Type::TEXT, true),
        column("since", Type::TIMESTAMPTZ, true),
    ]
});

struct Intents(Weak<Engine>);

/// The relation, over an engine that is being made.
pub(crate) fn relations(engine: &Weak<Engine>) -> Vec<Arc<dyn SystemRelation>> {
    vec![Arc::new(Intents(engine.clone()))]
}

impl SystemRelation for Intents {
    fn name(&self) -> (&str, &str) {
        ("freehold", "intents")
    }

    fn columns(&self) -> &[SystemColumn] {
        &COLUMNS
    }

    /// Of the owners that the role acts for and whose groups are here; where its own is not, the
    /// statement goes to its home.
    fn rows(&self, cx: &SystemCx<'_>) -> Result<SystemRows> {
        let Some(engine) = self.0.upgrade() else {
            return Ok(Box::new(std::iter::empty()));
        };
        let mut found = Vec::new();
        for (role, id) in cx.catalog.owners() {
            if !cx.acts_for(role) {
                continue;
            }
            let held = engine.groups().get(id).filter(|group| !group.is_followed());
            match held {
                Some(group) => of_group(cx, &engine, &group, &mut found)?,
                None if role == cx.role => cx.environment.go_home(id)?,
                None => {}
            }
        }
        Ok(Box::new(found.into_iter().map(Ok)))
    }
}

fn of_group(
    cx: &SystemCx<'_>,
    engine: &Engine,
    group: &Group,
    found: &mut Vec<SystemRow>,
) -> Result<()> {
    let catalog: &Catalog = cx.catalog;
    let (all, at) = ((Bound::Unbounded, Bound::Unbounded), group.applied());
    for row in group.scan(system::INTENTS, all, at, Direction::Forward)? {
        let (key, bytes) = row?;
        let Some(id) = rows::intent_of(&key) else {
            continue;
        };
        let intent = Intent::decode(&bytes)?;
        let table = catalog.table(intent.table).map(|table| table.name.clone());
        let owner = catalog
            .owner_of_group(group.id())
            .map(|owner| catalog.role_name(owner));
        for of in &intent.asked {
            let other = &of.group;
            // Who has a table that may not be seen is not named.
            let asked = catalog.owner_of_group(*other);
            let seen = |role| {
                let of = catalog.tables().filter(|table| table.group == *other);
                catalog.has_role(cx.role, role)
                    || of.into_iter().any(|table| catalog.sees(cx.role, table))
            };
            let asked = asked
                .filter(|role| seen(*role))
                .map(|role| catalog.role_name(role));
            let said = match said(engine, group.id(), *other, id)? {
                "prepared" if intent.decided => "decided",
                said => said,
            };
            let text =
                |text: Option<String>| text.map_or(Datum::Null, |text| Datum::Text(text.into()));
            found.push(vec![
                text(owner.clone()),
                text(table.clone()),
                Datum::Int8(intent.holder.0 as i64),
                text(asked),
                Datum::Text(said.into()),
                Datum::Timestamptz(since_2000(intent.since)),
            ]);
        }
    }
    Ok(())
}

/// What the asked one has said, as far as it is shown here.
fn said(engine: &Engine, home: GroupId, other: GroupId, id: storage::TxId) -> Result<&'static str> {
    let Some(group) = engine.groups().get(other) else {
        return Ok("asked");
    };
    let tree = system::outbox(home);
    if !group.holds(tree) {
        return Ok("asked");
    }
    let answer = group.get(tree, &answer_key(id), group.applied())?;
    Ok(
        match answer.map(|bytes| Answer::decode(&bytes)).transpose()? {
            None => "asked",
            Some(Answer::Yes) => "yes",
            Some(Answer::Prepared(_)) => "prepared",
            Some(Answer::Done) => "done",
            Some(Answer::No(_)) => "refused",
        },
    )
}
