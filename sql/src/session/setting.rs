//! SET, RESET, SHOW and DISCARD.

use super::job::{Job, Phase};
use super::utility::{column, text};
use super::{Output, Session, control};
use crate::parse::{Modes, SettingStatement};
use crate::settings::{self, Place};
use crate::transaction::Stop;
use crate::types::Type;
use crate::{Error, Result, state};

impl Session {
    /// SET and its kin.
    pub(super) fn setting_statement(
        &mut self,
        job: &mut Job,
        statement: &SettingStatement,
        out: &mut dyn Output,
    ) -> std::result::Result<Phase, Stop> {
        let made = |tag: &str| Ok(Phase::Made(tag.to_owned()));
        match statement {
            SettingStatement::Show(name) => return self.show(job, name),
            SettingStatement::ShowAll => return self.show_all(job),
            SettingStatement::DiscardAll => {
                self.alone("DISCARD ALL")?;
                self.discard_all()?;
                return made("DISCARD ALL");
            }
            SettingStatement::DiscardPlans => return made("DISCARD PLANS"),
            SettingStatement::DiscardSequences => {
                self.forget_sequences();
                return made("DISCARD SEQUENCES");
            }
            SettingStatement::DiscardTemp => return made("DISCARD TEMP"),
            SettingStatement::Set { .. }
            | SettingStatement::Constraints(..)
            | SettingStatement::Reset(_)
            | SettingStatement::ResetAll
            | SettingStatement::SessionAuthorization { .. } => {}
        }
        // What is set outside of a block is a transaction of its own.
        self.ensure_transaction(false);
        match statement {
            SettingStatement::Set { name, value, local } => {
                if *local && !self.block {
                    let message = "SET LOCAL can only be used in transaction blocks";
                    let warning = Error::new(state::NO_ACTIVE_SQL_TRANSACTION, message);
                    out.notice("WARNING", &warning);
                }
                self.set(name, value.as_deref(), *local)?;
                made("SET")
            }
            SettingStatement::SessionAuthorization { role, .. } => {
                let catalog = self.catalog();
                self.user.set_session(&catalog, role.as_deref())?;
                self.settings_touched()?;
                made("SET")
            }
            SettingStatement::Reset(name) => {
                self.set(name, None, false)?;
                made("RESET")
            }
            SettingStatement::ResetAll => {
                self.values.reset_all();
                self.settings_touched()?;
                made("RESET")
            }
            SettingStatement::Constraints(names, deferred) => {
                let constraints = match names {
                    None => None,
                    Some(names) => Some(self.find_constraints(names)?),
                };
                self.deferred.set(constraints.as_deref(), *deferred);
                if !deferred {
                    self.run_deferred(false)?;
                }
                made("SET CONSTRAINTS")
            }
            _ => made("SET"),
        }
    }

    /// Sets one setting; `None` = its default.
    pub(super) fn set(&mut self, name: &str, value: Option<&[String]>, local: bool) -> Result<()> {
        let first = value.and_then(|v| v.first()).map(String::as_str);
        match name.to_ascii_lowercase().as_str() {
            "role" => {
                let catalog = self.catalog();
                let role = first.filter(|r| *r != "none");
                self.user.set_role(&catalog, role)?;
                return self.settings_touched();
            }
            "session_authorization" => {
                let catalog = self.catalog();
                self.user.set_session(&catalog, first)?;
                return self.settings_touched();
            }
            "transaction_isolation" => {
                let isolation = first.map(isolation_of).transpose()?;
                let isolation = isolation.unwrap_or(self.effective.isolation);
                let modes = Modes {
                    isolation: Some(isolation),
                    ..Modes::default()
                };
                return self.set_modes(&modes);
            }
            "transaction_read_only" => {
                let read_only = match first {
                    Some(text) => crate::parse::boolean(text),
                    None => Some(self.effective.read_only),
                };
                return self.set_modes(&Modes {
                    read_only,
                    ..Modes::default()
                });
            }
            "transaction_deferrable" => {
                let deferrable = first.and_then(crate::parse::boolean);
                return self.set_modes(&Modes {
                    deferrable,
                    ..Modes::default()
                });
            }
            "seed" => {
                if let Some(seed) = first.and_then(|f| f.parse::<f64>().ok()) {
                    self.memory.borrow_mut().random = Some(seed.to_bits());
                }
                return Ok(());
            }
            "freehold.token" => {
                let token = super::token::Token::parse(first.unwrap_or(""))?;
                for (group, position) in token.iter() {
                    self.token.add(group, position);
                }
                self.await_token = true;
                self.token_moved = true;
                self.changed.token = true;
                return Ok(());
            }
            _ => {}
        }
        let superuser = self.engine.catalog().is_superuser(self.user.session);
        let place = if local { Place::Local } else { Place::Session };
        match value {
            Some(values) => self.values.set(name, Some(values), place, superuser)?,
            None => self.values.reset(name, superuser)?,
        }
        self.settings_touched()
    }

    fn set_modes(&mut self, modes: &Modes) -> Result<()> {
        match self.transaction.as_mut() {
            Some(tx) => tx.set_modes(modes),
            None => Ok(()),
        }
    }

    fn show(&mut self, job: &mut Job, name: &str) -> std::result::Result<Phase, Stop> {
        let value = self
            .shown_setting(name)
            .ok_or_else(|| settings::unknown(name))?;
        let name = settings::find(name)
            .map_or(name, |s| s.name.as_str())
            .to_owned();
        let columns = vec![column(&name, Type::TEXT)];
        Ok(self.given(job, columns, vec![vec![text(value)]], "SHOW"))
    }

    fn show_all(&mut self, job: &mut Job) -> std::result::Result<Phase, Stop> {
        let row = |setting: &settings::Setting| {
            let value = self.shown_setting(&setting.name).unwrap_or_default();
            vec![text(&setting.name), text(value), text(&setting.description)]
        };
        let hidden = ["role", "session_authorization", "is_superuser"];
        let all = settings::all()
            .iter()
            .filter(|s| !hidden.contains(&s.name.as_str()));
        let rows = all.map(row).collect();
        let columns = ["name", "setting", "description"]
            .map(|n| column(n, Type::TEXT))
            .into();
        Ok(self.given(job, columns, rows, "SHOW"))
    }

    /// Deferrable constraints by name, in the tables that the search path shows.
    fn find_constraints(&mut self, names: &[String]) -> Result<Vec<u32>> {
        let catalog = self.fresh_catalog();
        let mut all = Vec::new();
        for name in names {
            let mut found = false;
            for table in catalog
                .tables()
                .filter(|t| self.path.schemas.contains(&t.schema))
            {
                for constraint in table.constraints.iter().filter(|c| c.name() == name) {
                    found = true;
                    if let crate::catalog::Constraint::Foreign(key) = constraint {
                        if !key.deferrable {
                            return Err(Error::new(
                                state::WRONG_OBJECT_TYPE,
                                format!("constraint \"{name}\" is not deferrable"),
                            ));
                        }
                        all.push(key.id);
                    }
                }
            }
            if !found {
                return Err(Error::new(
                    state::UNDEFINED_OBJECT,
                    format!("constraint \"{name}\" does not exist"),
                ));
            }
        }
        Ok(all)
    }

    fn forget_sequences(&mut self) {
        let mut memory = self.memory.borrow_mut();
        memory.current.clear();
        memory.last = None;
        memory.changed = true;
    }

    /// DISCARD ALL: as if the session had just been opened.
    fn discard_all(&mut self) -> Result<()> {
        self.portals.clear();
        let catalog = self.engine.catalog();
        self.user.set_session(&catalog, None)?;
        self.values.reset_all();
        self.drop_statements();
        self.turn.acted = true;
        self.listens.clear();
        self.engine
            .notifier()
            .unlisten(None, self.activity.process());
        self.activity.update(|shown| shown.channels.clear());
        self.changed.channels = true;
        control::unlock_all(&self.engine, &self.memory);
        self.forget_sequences();
        self.settings_touched()
    }
}

fn isolation_of(text: &str) -> Result<crate::transaction::Isolation> {
    let known = [
        "serializable",
        "repeatable read",
        "read committed",
        "read uncommitted",
    ];
    let text = text.to_ascii_lowercase();
    if known.contains(&text.as_str()) {
        return Ok(settings::isolation(&text));
    }
    Err(Error::new(
        state::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"transaction_isolation\": \"{text}\""),
    )
    .hint("Available values: serializable, repeatable read, read committed, read uncommitted."))
}
