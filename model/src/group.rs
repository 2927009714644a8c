//! One owner's group: what its log holds, and the state that the log makes. A group can be a
//! parent, a child, or both.
//!
//! A position is an index into the log, 0 is the state in which the scenario begins. Apply is
//! blind: [`View::apply`] looks at nothing but the entry.

/// Groups of a scenario, at most.
pub const GROUPS: usize = 3;
/// Rows of a table, at most.
pub const ROWS: usize = 2;

/// A place in a log.
pub type Position = u8;
/// The name of an intent, never given twice.
pub type Name = u8;
/// A set of groups.
pub type Set = u8;

/// The set of one group.
pub const fn only(group: usize) -> Set {
    1 << group
}

/// Is a group in a set?
pub const fn has(set: Set, group: usize) -> bool {
    set & only(group) != 0
}

/// A row of a group's table. Its key is its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// The key of the parent's table that it references.
    pub to: Option<u8>,
    /// The entry that wrote it.
    pub version: Position,
    /// The constraint holds for it. Rows from before the constraint are not checked until it is valid.
    pub checked: bool,
}

/// How far a constraint is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Constraint {
    /// There is none, or it is dropped.
    #[default]
    None,
    /// The parent is asked to register it; nothing may be referenced under it yet. Also what is left
    /// of a transaction that wanted it and is gone, until that is dropped.
    Wished,
    /// New rows are checked.
    Enforced,
    /// It holds for all rows.
    Valid,
}

/// What is done with a row when the key that it references goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prepared {
    /// The version that was seen.
    pub version: Position,
    /// What is referenced from then on; `None`: the row goes.
    pub to: Option<u8>,
}

/// An intent to remove a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Intent {
    /// Its name.
    pub name: Name,
    /// The key.
    pub key: u8,
    /// The version of the row that goes.
    pub version: Position,
    /// Whose answers count.
    pub asked: Set,
    /// Who is told of it: those, and who has registered since.
    pub told: Set,
    /// It goes on, whoever leads.
    pub decided: bool,
    /// Its cause was answered with yes: from here on it goes on if that does.
    pub promised: bool,
    /// The intent of the parent that this one follows from.
    pub cause: Option<Name>,
    /// The entry that last touched it.
    pub at: Position,
}

/// What a child has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The key is still referenced.
    No,
    /// Nothing references it from now on but what is prepared.
    Yes,
    /// What was prepared is committed.
    Done,
}

/// A child's answer to an intent, and the fence that goes with a yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The parent's intent.
    pub name: Name,
    /// The key that may not be referenced.
    pub key: u8,
    /// What was said.
    pub answer: Answer,
    /// It has something to commit.
    pub acts: bool,
    /// What that is.
    pub prepared: Option<Prepared>,
    /// The entry that last touched it.
    pub at: Position,
}

/// What an entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A row comes.
    Put {
        /// Its key.
        row: u8,
        /// What it references.
        to: Option<u8>,
        /// Under a constraint?
        checked: bool,
    },
    /// A row goes; `name`: and its intent with it.
    Remove {
        /// The intent, if anybody was asked.
        name: Option<Name>,
        /// The row.
        row: u8,
        /// The version that the transaction saw.
        version: Position,
    },
    /// Round one begins.
    Ask {
        /// The intent's name.
        name: Name,
        /// The row that is to go.
        row: u8,
        /// Its version.
        version: Position,
        /// Who is asked.
        asked: Set,
        /// The parent's intent that makes it go, and the parent's position.
        cause: Option<(Name, Position)>,
    },
    /// Round two begins.
    Decide(Name),
    /// The intent has ended and nothing has happened.
    Cancel(Name),
    /// A yes.
    Fence {
        /// The parent's intent.
        name: Name,
        /// The key.
        key: u8,
        /// What is to be committed after the decision.
        prepared: Option<Prepared>,
        /// The name of the group's own intent to remove the row, if nobody was asked for it.
        own: Option<Name>,
        /// The parent's position at which it was made.
        seen: Position,
    },
    /// A no.
    Refuse {
        /// The parent's intent.
        name: Name,
        /// The key.
        key: u8,
        /// The parent's position.
        seen: Position,
    },
    /// What was prepared takes effect.
    Commit(Name),
    /// The parent's intent has ended: so does the fence.
    Lift {
        /// The parent's intent.
        name: Name,
        /// The parent's position at which it was not there any more.
        seen: Position,
    },
    /// The child declares the constraint.
    Wish,
    /// The parent registers it.
    Register {
        /// Whose.
        child: u8,
        /// The child's position.
        seen: Position,
    },
    /// The child enforces it.
    Enforce {
        /// The parent's position.
        seen: Position,
    },
    /// It holds for all rows.
    Valid,
    /// The child drops it.
    Drop,
    /// The parent asks no more.
    Unregister {
        /// Whom.
        child: u8,
        /// The child's position.
        seen: Position,
    },
}

/// What an entry depends on: a position for each group, 0 for none.
pub type Deps = [Position; GROUPS];

/// One entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// What it does.
    pub what: What,
    /// What must be shown before it is.
    pub deps: Deps,
}

/// The state of a group at a position.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The table.
    pub rows: [Option<Row>; ROWS],
    /// The constraint on the parent.
    pub constraint: Constraint,
    /// Children that must be asked.
    pub registered: Set,
    /// Below these positions of others this group does not act.
    pub floor: [Position; GROUPS],
    /// Intents that have not ended.
    pub intents: Vec<Intent>,
    /// Answers to intents of the parent, until those have ended.
    pub fences: Vec<Fence>,
    /// Names of intents that were cancelled.
    pub cancelled: Vec<Name>,
    /// Names of intents for which something was committed here.
    pub committed: Vec<Name>,
    /// A change that was prepared or decided has met another row than it had seen.
    pub overwritten: bool,
}

impl View {
    /// An intent that has not ended.
    pub fn intent(&self, name: Name) -> Option<&Intent> {
        self.intents.iter().find(|intent| intent.name == name)
    }

    /// The intent that follows from one of the parent's.
    pub fn caused_by(&self, cause: Name) -> Option<&Intent> {
        let cause = Some(cause);
        self.intents.iter().find(|intent| intent.cause == cause)
    }

    /// The answer to an intent of the parent.
    pub fn fence(&self, name: Name) -> Option<&Fence> {
        self.fences.iter().find(|fence| fence.name == name)
    }

    /// May this key not be referenced?
    pub fn is_fenced(&self, key: u8) -> bool {
        let forbids = |fence: &&Fence| fence.key == key && fence.answer != Answer::No;
        self.fences.iter().any(|fence| forbids(&fence))
    }

    /// Applies the entry at a position. `me`: the group; `parent`: the group it references.
    pub fn apply(&mut self, at: Position, what: What, parent: usize) {
        match what {
            What::Put { row, to, checked } => {
                let version = at;
                self.rows[row as usize] = Some(Row {
                    to,
                    version,
                    checked,
                });
            }
            What::Remove { name, row, version } => {
                self.take(row, version);
                self.intents.retain(|intent| Some(intent.name) != name);
            }
            What::Ask {
                name,
                row,
                version,
                asked,
                cause,
            } => {
                if let Some((_, seen)) = cause {
                    self.raise(parent, seen);
                }
                self.intents.push(Intent {
                    name,
                    key: row,
                    version,
                    asked,
                    told: asked,
                    decided: false,
                    promised: false,
                    cause: cause.map(|(cause, _)| cause),
                    at,
                });
            }
            What::Decide(name) => {
                let intents = self.intents.iter_mut();
                for intent in intents.filter(|intent| intent.name == name) {
                    intent.decided = true;
                    intent.at = at;
                }
            }
            What::Cancel(name) => {
                self.intents.retain(|intent| intent.name != name);
                self.cancelled.push(name);
            }
            What::Fence {
                name,
                key,
                prepared,
                own,
                seen,
            } => {
                self.raise(parent, seen);
                self.promise(at, name, prepared, own);
                self.fences.push(Fence {
                    name,
                    key,
                    answer: Answer::Yes,
                    acts: prepared.is_some(),
                    prepared,
                    at,
                });
            }
            What::Refuse { name, key, seen } => {
                self.raise(parent, seen);
                self.end_cause(name);
                self.fences.push(Fence {
                    name,
                    key,
                    answer: Answer::No,
                    acts: false,
                    prepared: None,
                    at,
                });
            }
            What::Commit(name) => self.commit(at, name),
            What::Lift { name, seen } => {
                self.raise(parent, seen);
                self.end_cause(name);
                self.fences.retain(|fence| fence.name != name);
            }
            What::Wish => self.constraint = Constraint::Wished,
            What::Register { child, seen } => {
                self.raise(child as usize, seen);
                self.registered |= only(child as usize);
                let bound = |intent: &&mut Intent| intent.decided || intent.promised;
                for intent in self.intents.iter_mut().filter(bound) {
                    intent.told |= only(child as usize);
                }
            }
            What::Enforce { seen } => {
                self.raise(parent, seen);
                self.constraint = Constraint::Enforced;
            }
            What::Valid => {
                self.constraint = Constraint::Valid;
                self.rows
                    .iter_mut()
                    .flatten()
                    .for_each(|row| row.checked = true);
            }
            What::Drop => {
                self.constraint = Constraint::None;
                self.rows
                    .iter_mut()
                    .flatten()
                    .for_each(|row| row.checked = false);
                self.fences
                    .iter_mut()
                    .for_each(|fence| fence.prepared = None);
                let caused = self.intents.iter().filter_map(|intent| intent.cause);
                let causes: Vec<Name> = caused.collect();
                causes.into_iter().for_each(|cause| self.end_cause(cause));
            }
            What::Unregister { child, seen } => {
                self.raise(child as usize, seen);
                self.registered &= !only(child as usize);
            }
        }
    }

    fn raise(&mut self, group: usize, seen: Position) {
        self.floor[group] = self.floor[group].max(seen);
    }

    /// With a yes that lets a row go the intent to remove it is promised; there is one even if
    /// nobody was asked, for those who register later.
    fn promise(
        &mut self,
        at: Position,
        cause: Name,
        prepared: Option<Prepared>,
        own: Option<Name>,
    ) {
        if let (Some(name), Some(Prepared { version, to: None })) = (own, prepared) {
            self.intents.push(Intent {
                name,
                key: 0,
                version,
                asked: 0,
                told: 0,
                decided: false,
                promised: false,
                cause: Some(cause),
                at,
            });
        }
        let cause = Some(cause);
        let intents = self.intents.iter_mut();
        for intent in intents.filter(|intent| intent.cause == cause) {
            intent.promised = true;
        }
    }

    fn take(&mut self, row: u8, version: Position) {
        let gone = self.rows[row as usize].take();
        self.overwritten |= gone.is_none_or(|row| row.version != version);
    }

    /// The intent that follows from an intent of the parent ends with that.
    fn end_cause(&mut self, cause: Name) {
        let cause = Some(cause);
        let ended = self.intents.iter().filter(|intent| intent.cause == cause);
        self.cancelled.extend(ended.map(|intent| intent.name));
        self.intents.retain(|intent| intent.cause != cause);
    }

    fn commit(&mut self, at: Position, name: Name) {
        let cause = Some(name);
        self.intents.retain(|intent| intent.cause != cause);
        self.committed.push(name);
        let fences = self.fences.iter_mut();
        let Some(fence) = fences.into_iter().find(|fence| fence.name == name) else {
            return;
        };
        fence.answer = Answer::Done;
        fence.at = at;
        let Some(prepared) = fence.prepared.take() else {
            return;
        };
        match prepared.to {
            None => self.take(0, prepared.version),
            Some(to) => {
                self.take(0, prepared.version);
                self.rows[0] = Some(Row {
                    to: Some(to),
                    version: at,
                    checked: true,
                });
            }
        }
    }
}
