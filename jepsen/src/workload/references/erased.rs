//! What must be gone when nobody writes: nothing of a removed row is in any byte of any node, in the
//! feed, or in what the server says that it still has to erase.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::{Desk, ONLOOKER, OWNERS};
use crate::check::erased::{Fate, Fates, Version, canary};
use crate::check::references::{Rows, Schema};
use crate::error::Result;
use crate::field::Field;
use crate::finding::Kind as FindingKind;
use crate::link::{Link, Texts, text};

/// Everything is gone so long after the load, at most: the bound, for ERASE the minute in which it is
/// patient, and what a machine needs on which others work, too.
const GONE_WITHIN: Duration = Duration::from_secs(150);

/// Pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// What is left is named so often, by node.
const SHOWN_MAX: usize = 3;

/// Removed rows of each table that the server is asked about.
const ASKED_MAX: usize = 2;

/// Rows of a page of the feed.
const PAGE_ROWS: u64 = 2_000;

/// So many folders have a row, if there are as many: a group's voters.
const VOTERS_MAX: usize = 3;

/// Waits until all is gone, and judges.
pub(super) async fn judge(field: &Field, desk: &Desk, folders: &[PathBuf]) -> Result<()> {
    let schema = desk.schema();
    let rows = desk.books().rows().clone();
    let looker = Looker {
        field,
        schema: &schema,
        rows,
        fates: desk.fates(),
        folders,
    };
    let began = Instant::now();
    let first = looker.bytes()?.gone();
    loop {
        let left = looker.left().await?;
        if left.is_empty() {
            break;
        }
        if began.elapsed() > GONE_WITHIN {
            let seconds = GONE_WITHIN.as_secs();
            for what in left {
                let what = format!("after {seconds} s {what}");
                field.findings.add(FindingKind::Anomaly, what);
            }
            break;
        }
        sleep(LOOK_PAUSE).await;
    }
    looker.feeds().await?;
    let lives = looker.bytes()?.lives(&looker.fates);
    desk.found.store(lives, Ordering::Relaxed);
    let value = json!({
        "gone": looker.fates.count(Fate::Gone), "live": looker.fates.count(Fate::Lives),
        "of them found, in percent": lives, "still there at first": first.len(),
        "seconds": began.elapsed().as_secs_f64(),
    });
    field.history.note("erased", value);
    Ok(())
}

/// Of nodes that have ended: their bytes alone.
pub(super) fn judge_ended(field: &Field, desk: &Desk, folders: &[PathBuf]) -> Result<()> {
    let (fates, schema) = (desk.fates(), desk.schema());
    let bytes = block_in_place(|| Bytes::read(folders, &fates))?;
    for what in bytes.words(&schema) {
        let what = format!("after the end {what}");
        field.findings.add(FindingKind::Anomaly, what);
    }
    desk.found.store(bytes.lives(&fates), Ordering::Relaxed);
    Ok(())
}

/// What it takes to look.
struct Looker<'a> {
    field: &'a Field,
    schema: &'a Schema,
    rows: Rows,
    fates: Fates,
    folders: &'a [PathBuf],
}

impl Looker<'_> {
    fn bytes(&self) -> Result<Bytes> {
        block_in_place(|| Bytes::read(self.folders, &self.fates))
    }

    /// What is left of removed rows, in words.
    async fn left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for owner in OWNERS {
            left.extend(self.erasures(owner).await?);
        }
        if left.is_empty() {
            left.extend(self.bytes()?.words(self.schema));
        }
        if left.is_empty() {
            left.extend(self.traces().await?);
        }
        Ok(left)
    }

    /// What each node says of an owner's copies.
    async fn erasures(&self, owner: &str) -> Result<Vec<String>> {
        let sql = "SELECT node, copy, removed_up_to, erased_at IS NULL, reachable \
                   FROM freehold.erasures \
                   WHERE erased_at IS NULL OR NOT keys_erased AND copy = 'replica'";
        let mut left = Vec::new();
        for node in 0..self.field.address.len() {
            let link = Link::demand(&self.field.address.only(node), owner).await?;
            for row in link.must(sql).await? {
                let what = format!("node {} says of erasures of {owner}: {row:?}", node + 1);
                left.push(what);
            }
        }
        Ok(left)
    }

    /// What all nodes have of some of the rows that are not there.
    async fn traces(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for (at, table) in self.schema.iter().enumerate() {
            let link = Link::demand(&self.field.address, OWNERS[table.owner]).await?;
            let absent = (1..=table.keys).filter(|id| !self.rows.contains_key(&(at, *id)));
            for id in absent.take(ASKED_MAX) {
                let name = table.name;
                let sql = format!(
                    "SELECT node, images, rows FROM freehold.verify_erased('public.{name}', '{{\"id\": {id}}}') \
                     WHERE erased IS NOT TRUE"
                );
                for row in link.must(&sql).await? {
                    left.push(format!("{name} {id} is not erased: {row:?}"));
                }
            }
        }
        Ok(left)
    }

    /// Each node's feed from its beginning.
    async fn feeds(&self) -> Result<()> {
        for node in 0..self.field.address.len() {
            let link = Link::demand(&self.field.address.only(node), ONLOOKER).await?;
            let mut after = "NULL".to_owned();
            loop {
                let rows = link.must(&self.page(&after)).await?;
                let Some(last) = rows.last().filter(|row| text(row, 1) != "progress") else {
                    break;
                };
                after = format!("'{}'", text(last, 0));
                rows.iter().for_each(|row| self.judge_line(node, row));
            }
        }
        Ok(())
    }

    fn page(&self, after: &str) -> String {
        let public = self
            .schema
            .iter()
            .filter(|table| table.name.ends_with("_v1"));
        let names: Vec<String> = public.map(|table| format!("'{}'", table.name)).collect();
        format!(
            "SELECT position, op, table_name, key, new, old FROM freehold.changes(after => {after}, \
             tables => ARRAY[{}], wait => '10ms', max_rows => {PAGE_ROWS})",
            names.join(", ")
        )
    }

    /// Nothing shows what was removed, and every removal is shown as an erase.
    fn judge_line(&self, node: usize, row: &Texts) {
        let line: String = (3..row.len()).map(|at| text(row, at)).collect();
        let gone = self.fates.in_bytes(line.as_bytes(), Fate::Gone);
        let is_bare = text(row, 4).is_empty() && text(row, 5).is_empty();
        let is_right = match text(row, 1) {
            "delete" => false,
            "erase" => is_bare,
            _ => true,
        };
        if !gone.is_empty() || !is_right {
            let what = format!(
                "after all was erased the feed of node {} has {row:?}",
                node + 1
            );
            self.field.findings.add(FindingKind::Feed, what);
        }
    }
}

/// Which versions the files of each node's folder have something of.
struct Bytes {
    gone: Vec<BTreeMap<PathBuf, BTreeSet<Version>>>,
    lives: Vec<BTreeSet<Version>>,
}

impl Bytes {
    fn read(folders: &[PathBuf], fates: &Fates) -> Result<Bytes> {
        let (mut all, mut lives) = (Vec::new(), Vec::new());
        for folder in folders {
            let (mut gone, mut here) = (BTreeMap::new(), BTreeSet::new());
            for file in files(folder) {
                // One that goes meanwhile has nothing.
                let Ok(bytes) = std::fs::read(&file) else {
                    continue;
                };
                here.extend(fates.in_bytes(&bytes, Fate::Lives));
                let found = fates.in_bytes(&bytes, Fate::Gone);
                if !found.is_empty() {
                    gone.insert(file, found);
                }
            }
            all.push(gone);
            lives.push(here);
        }
        Ok(Bytes { gone: all, lives })
    }

    /// What is left, wherever it is.
    fn gone(&self) -> BTreeSet<Version> {
        let all = self.gone.iter().flat_map(BTreeMap::values);
        all.flatten().copied().collect()
    }

    /// Of 100 rows that live, how many are in every folder that has to have them.
    fn lives(&self, fates: &Fates) -> u64 {
        let wanted = self.lives.len().min(VOTERS_MAX);
        let mut times: BTreeMap<Version, usize> = BTreeMap::new();
        for version in self.lives.iter().flatten() {
            *times.entry(*version).or_default() += 1;
        }
        let found = times.values().filter(|times| **times >= wanted).count();
        match fates.count(Fate::Lives) {
            0 => 0,
            all => (100 * found / all) as u64,
        }
    }

    /// What is left, in words.
    fn words(&self, schema: &Schema) -> Vec<String> {
        let mut words = Vec::new();
        for (node, files) in self.gone.iter().enumerate() {
            for (file, versions) in files.iter().take(SHOWN_MAX) {
                let some = versions
                    .iter()
                    .take(SHOWN_MAX)
                    .map(|version @ ((table, id), n)| {
                        let (name, note) = (schema[*table].name, canary(*version));
                        format!("{name} {id} of transaction {n} with {note}")
                    });
                words.push(format!(
                    "node {} has {} removed rows in {}: {}",
                    node + 1,
                    versions.len(),
                    file.display(),
                    some.collect::<Vec<_>>().join(", ")
                ));
            }
        }
        words
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push(path),
        }
    }
    found
}
