//! Transaction control, the checks of LISTEN and NOTIFY, and the end of advisory locks.

use std::cell::RefCell;

use super::environment::Memory;
use super::finish::Chain;
use super::job::Phase;
use super::{Output, Session};
use crate::engine::Engine;
use crate::parse::TransactionStatement as Tx;
use crate::transaction::{Stop, Wait};
use crate::{Error, Result, state};

/// PostgreSQL's limit on a notification's payload.
const PAYLOAD_BYTES_MAX: usize = 8_000;

/// Checks a channel's name and a payload.
///
/// # Errors
/// 22023.
pub(super) fn check_notification(channel: &str, payload: &str) -> Result<()> {
    let invalid = |what: &str| Err(Error::new(state::INVALID_PARAMETER_VALUE, what.to_owned()));
    if channel.is_empty() {
        return invalid("channel name cannot be empty");
    }
    if channel.len() > crate::parse::NAME_BYTES_MAX {
        return invalid("channel name too long");
    }
    if payload.len() >= PAYLOAD_BYTES_MAX {
        return invalid("payload string too long");
    }
    Ok(())
}

/// Releases a session's advisory locks.
pub(super) fn unlock_all(engine: &Engine, memory: &RefCell<Memory>) {
    memory.borrow_mut().advisory.release(engine);
}

/// Releases the transaction's advisory locks.
pub(super) fn unlock_transaction(engine: &Engine, memory: &RefCell<Memory>) {
    memory.borrow_mut().advisory.release_transaction(engine);
}

impl Session {
    /// BEGIN, COMMIT, SAVEPOINT and their kin.
    pub(super) fn transaction_statement(
        &mut self,
        statement: &Tx,
        out: &mut dyn Output,
    ) -> std::result::Result<Phase, Stop> {
        let made = |tag: &str| Ok(Phase::Made(tag.to_owned()));
        match statement {
            Tx::Begin(modes, start) => {
                if self.block {
                    warn(
                        out,
                        state::ACTIVE_SQL_TRANSACTION,
                        "there is already a transaction in progress",
                    );
                } else if self.transaction.is_some() {
                    // Earlier statements of the same query string become part of the block.
                    self.block = true;
                    if let Some(tx) = self.transaction.as_mut() {
                        tx.make_block();
                    }
                } else {
                    let only_reads = modes.read_only.unwrap_or(self.effective.read_only);
                    if let Some(home) = self.home_of_block().filter(|_| !only_reads) {
                        return Err(Stop::Wait(Wait::Leader(home)));
                    }
                    self.ensure_transaction(true);
                }
                if let Some(tx) = self.transaction.as_mut() {
                    tx.set_modes(modes)?;
                }
                self.settings_changed = true;
                made(if *start { "START TRANSACTION" } else { "BEGIN" })
            }
            Tx::Commit { chain } => self.commit_statement(chain_of(*chain), out),
            Tx::Rollback { chain } => {
                if !self.block {
                    no_transaction(*chain, "ROLLBACK", out)?;
                }
                let told = self.failed;
                let mut holding = self.rollback(chain_of(*chain && self.block));
                if told {
                    holding.release();
                }
                Ok(Phase::Holding(holding, Ok("ROLLBACK".to_owned())))
            }
            Tx::Savepoint(name) => {
                self.in_block("SAVEPOINT")?;
                let saved = self.save();
                if let Some(tx) = self.transaction.as_mut() {
                    tx.savepoint(name);
                }
                self.saved.push(saved);
                self.changed.state = true;
                made("SAVEPOINT")
            }
            Tx::Release(name) => {
                self.in_block("RELEASE SAVEPOINT")?;
                if let Some(tx) = self.transaction.as_mut() {
                    tx.release_savepoint(name)?;
                    let open = tx.savepoints();
                    self.saved.truncate(open + 1);
                }
                self.changed.state = true;
                made("RELEASE")
            }
            Tx::RollbackTo(name) => {
                self.in_block("ROLLBACK TO SAVEPOINT")?;
                let open = match self.transaction.as_mut() {
                    Some(tx) => tx.rollback_to(name)?,
                    None => 0,
                };
                if let Some(saved) = self.saved.get(open).cloned() {
                    self.saved.truncate(open + 1);
                    self.restore(saved);
                }
                self.failed = false;
                self.changed.state = true;
                made("ROLLBACK")
            }
            Tx::Set(modes) => {
                if !self.block {
                    warn(
                        out,
                        state::NO_ACTIVE_SQL_TRANSACTION,
                        "SET TRANSACTION can only be used in transaction blocks",
                    );
                    return made("SET");
                }
                if let Some(tx) = self.transaction.as_mut() {
                    tx.set_modes(modes)?;
                }
                made("SET")
            }
            Tx::Snapshot(_) => Err(Error::unsupported("SET TRANSACTION SNAPSHOT").into()),
            Tx::Characteristics(modes) => {
                if let Some(isolation) = modes.isolation {
                    let value = isolation.name().to_owned();
                    self.set("default_transaction_isolation", Some(&[value]), false)?;
                }
                let on = |on: bool| [if on { "on" } else { "off" }.to_owned()];
                if let Some(read_only) = modes.read_only {
                    self.set("default_transaction_read_only", Some(&on(read_only)), false)?;
                }
                if let Some(deferrable) = modes.deferrable {
                    self.set(
                        "default_transaction_deferrable",
                        Some(&on(deferrable)),
                        false,
                    )?;
                }
                made("SET")
            }
        }
    }

    fn in_block(&self, what: &str) -> Result<()> {
        if self.block {
            return Ok(());
        }
        Err(Error::new(
            state::NO_ACTIVE_SQL_TRANSACTION,
            format!("{what} can only be used in transaction blocks"),
        ))
    }

    fn commit_statement(
        &mut self,
        chain: Chain,
        out: &mut dyn Output,
    ) -> std::result::Result<Phase, Stop> {
        if !self.block {
            no_transaction(chain == Chain::Yes, "COMMIT", out)?;
        }
        if self.failed {
            let mut holding = self.rollback(chain);
            holding.release();
            return Ok(Phase::Holding(holding, Ok("ROLLBACK".to_owned())));
        }
        let committed = match self.hold_cursors() {
            Ok(()) => self.commit(chain),
            Err(stop) => Err(stop),
        };
        if let Err(Stop::Error(_)) = &committed {
            // A COMMIT that fails leaves no failed block behind: the transaction is over.
            self.block = false;
        }
        Ok(Phase::Holding(committed?, Ok("COMMIT".to_owned())))
    }
}

fn chain_of(chain: bool) -> Chain {
    if chain { Chain::Yes } else { Chain::No }
}

fn no_transaction(chain: bool, what: &str, out: &mut dyn Output) -> Result<()> {
    if chain {
        return Err(Error::new(
            state::NO_ACTIVE_SQL_TRANSACTION,
            format!("{what} AND CHAIN can only be used in transaction blocks"),
        ));
    }
    warn(
        out,
        state::NO_ACTIVE_SQL_TRANSACTION,
        "there is no transaction in progress",
    );
    Ok(())
}

fn warn(out: &mut dyn Output, state: crate::SqlState, message: &str) {
    out.notice("WARNING", &Error::new(state, message));
}
