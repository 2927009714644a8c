//! Privileges and access control lists, with PostgreSQL's `aclitem` text.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

use serde::{Deserialize, Serialize};

use super::RoleId;

/// One privilege on one kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Privilege {
    /// Into an inbox (others), or a table (its owner).
    Insert = 1 << 0,
    /// Reading.
    Select = 1 << 1,
    /// UPDATE, and SELECT FOR UPDATE; `setval` of a sequence.
    Update = 1 << 2,
    /// DELETE.
    Delete = 1 << 3,
    /// TRUNCATE.
    Truncate = 1 << 4,
    /// As the target of a foreign key.
    References = 1 << 5,
    /// Creating triggers.
    Trigger = 1 << 6,
    /// `nextval`; names in a schema.
    Usage = 1 << 7,
    /// Making objects in a schema.
    Create = 1 << 8,
    /// Following and the feed (READ = SELECT + this).
    Follow = 1 << 9,
    /// A database.
    Connect = 1 << 10,
    /// Temporary tables in a database.
    Temporary = 1 << 11,
    /// Functions.
    Execute = 1 << 12,
}

/// PostgreSQL's letters in its own order, `F` being ours.
const LETTERS: [(Privilege, char, &str); 13] = [
    (Privilege::Insert, 'a', "INSERT"),
    (Privilege::Select, 'r', "SELECT"),
    (Privilege::Update, 'w', "UPDATE"),
    (Privilege::Delete, 'd', "DELETE"),
    (Privilege::Truncate, 'D', "TRUNCATE"),
    (Privilege::References, 'x', "REFERENCES"),
    (Privilege::Trigger, 't', "TRIGGER"),
    (Privilege::Execute, 'X', "EXECUTE"),
    (Privilege::Usage, 'U', "USAGE"),
    (Privilege::Create, 'C', "CREATE"),
    (Privilege::Temporary, 'T', "TEMPORARY"),
    (Privilege::Connect, 'c', "CONNECT"),
    (Privilege::Follow, 'F', "FOLLOW"),
];

impl Privilege {
    /// As in GRANT.
    pub fn name(self) -> &'static str {
        LETTERS.iter().find(|l| l.0 == self).map_or("?", |l| l.2)
    }

    /// The letter of `aclitem`.
    pub fn letter(self) -> char {
        LETTERS.iter().find(|l| l.0 == self).map_or('?', |l| l.1)
    }
}

/// A set of privileges.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Privileges(pub u16);

impl Privileges {
    /// None.
    pub const NONE: Privileges = Privileges(0);
    /// ALL on a table, as PostgreSQL 15 has it.
    pub const TABLE: Privileges = Privileges(0x7f);
    /// ALL on a column.
    pub const COLUMN: Privileges = Privileges(
        Privilege::Insert as u16
            | Privilege::Select as u16
            | Privilege::Update as u16
            | Privilege::References as u16,
    );
    /// ALL on a sequence.
    pub const SEQUENCE: Privileges =
        Privileges(Privilege::Select as u16 | Privilege::Update as u16 | Privilege::Usage as u16);
    /// ALL on a schema.
    pub const SCHEMA: Privileges = Privileges(Privilege::Usage as u16 | Privilege::Create as u16);
    /// READ = SELECT + follow + feed.
    pub const READ: Privileges = Privileges(Privilege::Select as u16 | Privilege::Follow as u16);

    /// Is it in the set?
    pub fn has(self, privilege: Privilege) -> bool {
        self.0 & privilege as u16 != 0
    }

    /// Are all of `other` in the set?
    pub fn contains(self, other: Privileges) -> bool {
        self.0 & other.0 == other.0
    }

    /// Is nothing in it?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Privileges) -> Privileges {
        Privileges(self.0 & other.0)
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn without(self, other: Privileges) -> Privileges {
        Privileges(self.0 & !other.0)
    }

    /// Each, in PostgreSQL's order.
    pub fn iter(self) -> impl Iterator<Item = Privilege> {
        LETTERS.iter().map(|l| l.0).filter(move |p| self.has(*p))
    }
}

impl From<Privilege> for Privileges {
    fn from(privilege: Privilege) -> Privileges {
        Privileges(privilege as u16)
    }
}

impl BitOr for Privileges {
    type Output = Privileges;

    fn bitor(self, other: Privileges) -> Privileges {
        Privileges(self.0 | other.0)
    }
}

impl BitOrAssign for Privileges {
    fn bitor_assign(&mut self, other: Privileges) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().map(Privilege::letter).collect::<String>())
    }
}

/// What one grantor gave one grantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclItem {
    /// Who may ([`RoleId::PUBLIC`] = everybody).
    pub grantee: RoleId,
    /// Who said so.
    pub grantor: RoleId,
    /// What.
    pub privileges: Privileges,
    /// What the grantee may pass on; a subset of `privileges`.
    pub options: Privileges,
}

impl AclItem {
    /// `grantee=arwd*/grantor`; `name` gives (quoted) role names.
    pub fn text(&self, name: impl Fn(RoleId) -> String) -> String {
        let mut out = String::new();
        if self.grantee != RoleId::PUBLIC {
            out.push_str(&name(self.grantee));
        }
        out.push('=');
        for privilege in self.privileges.iter() {
            out.push(privilege.letter());
            if self.options.has(privilege) {
                out.push('*');
            }
        }
        out.push('/');
        out.push_str(&name(self.grantor));
        out
    }
}

/// An access control list, in the order in which its items came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acl(pub Vec<AclItem>);

impl Acl {
    /// What the owner has by default.
    pub fn of_owner(owner: RoleId, all: Privileges) -> Acl {
        Acl(vec![AclItem {
            grantee: owner,
            grantor: owner,
            privileges: all,
            options: Privileges::NONE,
        }])
    }

    /// Everything that `is_member` grantees (and PUBLIC) have.
    pub fn granted(&self, is_member: impl Fn(RoleId) -> bool) -> Privileges {
        self.collect(is_member, |item| item.privileges)
    }

    /// Everything that they may pass on.
    pub fn grantable(&self, is_member: impl Fn(RoleId) -> bool) -> Privileges {
        self.collect(is_member, |item| item.options)
    }

    fn collect(
        &self,
        is_member: impl Fn(RoleId) -> bool,
        of: impl Fn(&AclItem) -> Privileges,
    ) -> Privileges {
        let mut all = Privileges::NONE;
        for item in &self.0 {
            if item.grantee == RoleId::PUBLIC || is_member(item.grantee) {
                all |= of(item);
            }
        }
        all
    }

    /// Adds privileges (and the right to pass them on).
    pub fn grant(&mut self, grantee: RoleId, grantor: RoleId, what: Privileges, option: bool) {
        let found = self
            .0
            .iter_mut()
            .find(|i| i.grantee == grantee && i.grantor == grantor);
        let options = if option { what } else { Privileges::NONE };
        match found {
            Some(item) => {
                item.privileges |= what;
                item.options |= options;
            }
            None => self.0.push(AclItem {
                grantee,
                grantor,
                privileges: what,
                options,
            }),
        }
    }

    /// Takes privileges (or only the right to pass them on) that `grantor` gave; says what was
    /// there to take.
    pub fn revoke(
        &mut self,
        grantee: RoleId,
        grantor: RoleId,
        what: Privileges,
        option_only: bool,
    ) -> Privileges {
        let mut taken = Privileges::NONE;
        for item in &mut self.0 {
            if item.grantee != grantee || item.grantor != grantor {
                continue;
            }
            if option_only {
                taken |= item.options.and(what);
            } else {
                taken |= item.privileges.and(what);
                item.privileges = item.privileges.without(what);
            }
            item.options = item.options.without(what);
        }
        self.0.retain(|item| !item.privileges.is_empty());
        taken
    }

    /// Does any item name the role?
    pub fn mentions(&self, role: RoleId) -> bool {
        self.0
            .iter()
            .any(|i| i.grantee == role || i.grantor == role)
    }
}
