//! Who a session is: the role that logged in, `session_user` and `current_user`.

use std::sync::Arc;

use crate::catalog::{Catalog, RoleId};
use crate::{Error, Result, state};

/// The three roles of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Who proved a password.
    pub login: RoleId,
    /// Its name.
    pub login_name: Arc<str>,
    /// SET SESSION AUTHORIZATION.
    pub session: RoleId,
    /// Its name.
    pub session_name: Arc<str>,
    /// SET ROLE.
    pub current: RoleId,
    /// Its name.
    pub current_name: Arc<str>,
}

impl User {
    /// A role that has just logged in.
    pub fn new(role: RoleId, name: &str) -> User {
        let name: Arc<str> = name.into();
        User {
            login: role,
            login_name: Arc::clone(&name),
            session: role,
            session_name: Arc::clone(&name),
            current: role,
            current_name: name,
        }
    }

    /// SET ROLE; `None` = NONE.
    ///
    /// # Errors
    /// 22023 for no such role, 42501 without membership.
    pub fn set_role(&mut self, catalog: &Catalog, name: Option<&str>) -> Result<()> {
        let Some(name) = name else {
            (self.current, self.current_name) = (self.session, Arc::clone(&self.session_name));
            return Ok(());
        };
        let role = find(catalog, name)?;
        if !catalog.is_member(self.session, role) {
            return Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set role \"{name}\""),
            ));
        }
        (self.current, self.current_name) = (role, name.into());
        Ok(())
    }

    /// SET SESSION AUTHORIZATION; `None` = DEFAULT.
    ///
    /// # Errors
    /// 22023 for no such role, 42501 for anyone but a superuser.
    pub fn set_session(&mut self, catalog: &Catalog, name: Option<&str>) -> Result<()> {
        let (role, name) = match name {
            None => (self.login, Arc::clone(&self.login_name)),
            Some(name) => (find(catalog, name)?, name.into()),
        };
        if role != self.session && !catalog.is_superuser(self.login) {
            return Err(Error::new(
                state::INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set session authorization \"{name}\""),
            ));
        }
        (self.session, self.session_name) = (role, Arc::clone(&name));
        (self.current, self.current_name) = (role, name);
        Ok(())
    }
}

fn find(catalog: &Catalog, name: &str) -> Result<RoleId> {
    catalog.role_by_name(name).map(|r| r.id).ok_or_else(|| {
        Error::new(
            state::INVALID_PARAMETER_VALUE,
            format!("role \"{name}\" does not exist"),
        )
    })
}
