//! The directory leader's side of a wish: the same decisions as for its own sessions, and the
//! answer when the entry is committed.

use std::sync::Arc;

use storage::{GroupId, Outcome, Position};

use super::{Answer, Done, Wish};
use crate::engine::Engine;
use crate::transaction::{Granted, Stop, Wait, leader_changed};

/// Attempts in which somebody else has written first.
const ATTEMPTS_MAX: u32 = 64;

impl Engine {
    /// Grants a wish of this node or another one, as the directory's leader; calls back when the
    /// answer counts. An error: this node does not lead the directory, or no longer.
    pub fn serve_wish(self: &Arc<Engine>, wish: Wish, done: Done<Answer>) {
        self.serve(wish, done, 0);
    }

    fn serve(self: &Arc<Engine>, wish: Wish, done: Done<Answer>, attempts: u32) {
        let Some(directory) = self.groups().get(GroupId::DIRECTORY) else {
            return done(Err(leader_changed()));
        };
        match self.grant(&wish) {
            Ok(Granted::Already) => done(Ok(Answer::At(directory.applied()))),
            Ok(Granted::At(position)) => self.committed(position, Answer::At(position), done),
            Ok(Granted::Oids(block, position)) => {
                self.committed(position, Answer::Oids(block), done);
            }
            Err(Stop::Wait(Wait::Position(_, position))) => {
                let engine = Arc::clone(self);
                let again = move |_| engine.serve(wish, done, attempts);
                directory.when(position, Box::new(again));
            }
            Err(Stop::Wait(Wait::Again)) if attempts < ATTEMPTS_MAX => {
                self.serve(wish, done, attempts + 1);
            }
            // What speaks against it is in the catalog: who asks finds it there.
            Err(Stop::Error(error)) if directory.term().is_some() => {
                tracing::debug!(?wish, %error, "a wish is refused");
                done(Ok(Answer::At(directory.applied())));
            }
            Err(_) => done(Err(leader_changed())),
        }
    }

    /// Answers when the entry is there for good.
    fn committed(&self, position: Position, answer: Answer, done: Done<Answer>) {
        let Some(directory) = self.groups().get(GroupId::DIRECTORY) else {
            return done(Err(leader_changed()));
        };
        let told = move |outcome| {
            done(match outcome {
                Outcome::Applied => Ok(answer),
                Outcome::Lost | Outcome::Unknown => Err(leader_changed()),
            });
        };
        directory.when(position, Box::new(told));
    }
}
