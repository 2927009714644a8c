//! The reader's end: asks the nodes that hold a view's group, the nearest first, until one gives its
//! rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use sql::changes::Interrupt;
use sql::remote::{Answer, Held, Reading, Request};
use sql::{Error, state};
use storage::GroupId;
use tokio::io::BufReader;
use tokio::time::Instant;

use super::words::{Word, opening};
use super::{GIVE_UP_AFTER, SILENT_AFTER};
use crate::cluster::Cluster;
use crate::feeds::{INTERRUPT_EVERY, wait};
use crate::follow::holders;
use crate::peer::PeerStream;

/// Asks for a view's rows, first of all the node that is `near`. Nobody is asked before the rows are.
pub fn read(
    cluster: &Arc<Cluster>,
    request: &Request,
    near: Option<u32>,
    interrupt: Interrupt,
) -> Box<dyn Reading> {
    Box::new(Reader {
        cluster: cluster.clone(),
        interrupt,
        opening: opening(request),
        group: request.group,
        holds: request.holds,
        near,
        source: None,
        given: false,
        ended: false,
        failed: BTreeSet::new(),
        failing: None,
        why: "none is known".to_owned(),
    })
}

struct Reader {
    cluster: Arc<Cluster>,
    interrupt: Interrupt,
    opening: Option<Bytes>,
    group: GroupId,
    holds: bool,
    near: Option<u32>,
    source: Option<(u32, BufReader<PeerStream>)>,
    /// Rows were given: another node would give them again.
    given: bool,
    /// Nothing more comes.
    ended: bool,
    /// Nodes that have failed since the last look at all of them.
    failed: BTreeSet<u32>,
    /// Since when.
    failing: Option<Instant>,
    /// Why the last one has.
    why: String,
}

impl Reading for Reader {
    fn next(&mut self) -> Result<Answer, Error> {
        loop {
            if self.ended {
                return Ok(Answer::End);
            }
            if self.source.is_none()
                && let Some(answer) = self.connect()?
            {
                return Ok(answer);
            }
            if let Some(answer) = self.hear()? {
                return Ok(answer);
            }
        }
    }

    fn hold(self: Box<Self>) -> Option<Held> {
        let (node, stream) = self.source.filter(|_| self.holds && self.ended)?;
        let stream = Box::new(parking_lot::Mutex::new(stream));
        Some(Held { node, stream })
    }
}

impl Reader {
    /// Finds a source. Told: why there is none.
    fn connect(&mut self) -> Result<Option<Answer>, Error> {
        let opening = self.opening.clone().ok_or_else(too_much)?;
        while self.source.is_none() {
            let Some(node) = self.candidates().into_iter().next() else {
                let since = *self.failing.get_or_insert_with(Instant::now);
                if since.elapsed() >= GIVE_UP_AFTER || !self.may_come_back() {
                    return Ok(Some(Answer::Away(std::mem::take(&mut self.why))));
                }
                // They may only be slow, or about to get what the reader has.
                self.failed.clear();
                wait(&self.interrupt, tokio::time::sleep(INTERRUPT_EVERY))?;
                continue;
            };
            let open = self.cluster.open(node, opening.clone());
            match wait(&self.interrupt, open)? {
                Ok(stream) => self.source = Some((node, BufReader::new(stream))),
                Err(error) => self.fail(node, error.to_string()),
            }
        }
        Ok(None)
    }

    /// Is one of those that have failed there?
    fn may_come_back(&self) -> bool {
        self.failed.iter().any(|node| self.cluster.is_live(*node))
    }

    /// Nodes that may give it, in the order in which they are asked.
    fn candidates(&self) -> Vec<u32> {
        let mut nodes = holders(&self.cluster, self.group);
        nodes.sort_by_key(|node| Some(*node) != self.near);
        nodes.retain(|node| !self.failed.contains(node));
        nodes
    }

    fn fail(&mut self, node: u32, why: String) {
        tracing::debug!(node, why, "a view is read elsewhere");
        self.source = None;
        self.failed.insert(node);
        self.failing.get_or_insert_with(Instant::now);
        self.why = why;
    }

    /// The source's next word, unless it says nothing that matters.
    fn hear(&mut self) -> Result<Option<Answer>, Error> {
        let Some((node, mut from)) = self.source.take() else {
            return Ok(None);
        };
        let word = match wait(&self.interrupt, Word::read(&mut from, SILENT_AFTER))? {
            Ok(word) => word,
            Err(error) => return Ok(self.lose(node, error.to_string())),
        };
        self.source = Some((node, from));
        Ok(match word {
            Word::Sign => None,
            Word::Rows(rows) => {
                self.given = true;
                Some(Answer::Rows(rows))
            }
            Word::End => {
                self.ended = true;
                Some(Answer::End)
            }
            Word::Ahead(group, at) => Some(Answer::Ahead(group, at)),
            Word::Old(at) => Some(Answer::Old(at)),
            Word::Lacks(why) => self.lose(node, why),
            Word::Failed(error) => return Err(error),
        })
    }

    /// Another node gives it all, if this one has given nothing.
    fn lose(&mut self, node: u32, why: String) -> Option<Answer> {
        self.fail(node, why);
        self.given.then_some(Answer::Lost)
    }
}

fn too_much() -> Error {
    Error::new(
        state::PROGRAM_LIMIT_EXCEEDED,
        "what is asked of a view at another node is too long",
    )
    .detail("The view's definition and the values that its columns are compared with go there.")
}
