//! Descriptors of what is no relation: roles, memberships, schemas, pattern grants, and the
//! directory's rows for owners and reserved names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Acl, Privileges, RoleId, SchemaId, TableId};

/// A role; its private schema has the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Role {
    /// `pg_authid.oid`.
    pub id: RoleId,
    /// Unique.
    pub name: String,
    /// OID of the private schema that was made with it.
    pub schema: SchemaId,
    /// Reads all and may act for any owner.
    pub superuser: bool,
    /// Has its roles' privileges without SET ROLE.
    pub inherit: bool,
    /// May create and alter roles.
    pub create_role: bool,
    /// May create databases (kept for the catalogs: there is one).
    pub create_db: bool,
    /// May connect.
    pub login: bool,
    /// `REPLICATION`.
    pub replication: bool,
    /// `BYPASSRLS`, kept for the catalogs.
    pub bypass_rls: bool,
    /// Connections at once; -1 = no limit.
    pub connection_limit: i32,
    /// SCRAM-SHA-256 verifier text.
    pub verifier: Option<String>,
    /// `VALID UNTIL`, microseconds since 2000-01-01 UTC.
    pub valid_until: Option<i64>,
    /// `ALTER ROLE ... SET name = value`.
    pub settings: Vec<(String, String)>,
    /// `COMMENT ON ROLE`.
    pub comment: Option<String>,
}

/// `member` has `role`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The role that was granted.
    pub role: RoleId,
    /// Who has it.
    pub member: RoleId,
    /// Who gave it.
    pub grantor: RoleId,
    /// `WITH ADMIN OPTION`.
    pub admin: bool,
}

/// A schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// `pg_namespace.oid`.
    pub id: SchemaId,
    /// Unique.
    pub name: String,
    /// May make objects in it.
    pub owner: RoleId,
    /// Explicit grants; `None` = the owner only.
    pub acl: Option<Acl>,
    /// `COMMENT ON SCHEMA`.
    pub comment: Option<String>,
}

/// `GRANT READ ON order_* TO billing`: over the grantor's own tables in `public`, present and
/// future. One row per pattern and grantee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternGrant {
    /// Its OID.
    pub id: u32,
    /// Whose tables.
    pub owner: RoleId,
    /// `*` stands for any characters; all else is literal.
    pub pattern: String,
    /// Who may ([`RoleId::PUBLIC`] = everybody).
    pub grantee: RoleId,
    /// What.
    pub privileges: Privileges,
}

impl PatternGrant {
    /// Does the pattern cover a name?
    pub fn covers(&self, name: &str) -> bool {
        glob(self.pattern.as_bytes(), name.as_bytes())
    }
}

/// What a role follows, so that its nodes keep copies: one table, or the tables in `public` whose
/// names a pattern covers, present and future.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Followed {
    /// This one.
    Table(TableId),
    /// `*` stands for any characters; all else is literal.
    Pattern(String),
}

/// Directory: a role follows something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// Whose nodes keep the copies.
    pub role: RoleId,
    /// Of what.
    pub what: Followed,
}

/// Directory: a role has read a contract of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRead {
    /// The contract.
    pub table: TableId,
    /// The reader.
    pub role: RoleId,
    /// When it is known to have read it last, in microseconds since 1970: it may have read it later,
    /// by up to [`super::READ_NOTED_EVERY`].
    pub at: u64,
}

/// Matches `*`; linear in the text for each star, never exponential.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Directory: the group that holds a role's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The role.
    pub role: RoleId,
    /// `GroupId` of its group.
    pub group: u32,
}

/// Directory: a name in `public` (or a schema name) that one owner may use. It lapses if the
/// owner's commit does not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// [`SchemaId::PUBLIC`], or 0 for a schema's own name.
    pub schema: SchemaId,
    /// The name.
    pub name: String,
    /// Who may use it.
    pub role: RoleId,
    /// When it was taken or renewed, microseconds since 1970.
    pub taken_at: u64,
}

/// Directory: a node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Given once, never again.
    pub number: u32,
    /// Of its data folder: another folder is another node.
    pub incarnation: String,
    /// Where the other nodes reach it, `host:port`; empty: nowhere.
    pub address: String,
    /// Where clients reach it, `host:port`.
    pub client_address: String,
    /// Where it stands: `region`, `zone`, ... and their values.
    #[serde(default)]
    pub locality: BTreeMap<String, String>,
    /// What it is there for.
    #[serde(default)]
    pub state: NodeState,
}

/// What a node is there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It takes replicas.
    #[default]
    Active,
    /// It is about to leave: it leads nothing if others can.
    Draining,
    /// It is gone for good: it may never vote or serve again.
    Gone,
}

impl NodeState {
    /// The word that views show.
    pub fn name(self) -> &'static str {
        match self {
            NodeState::Active => "active",
            NodeState::Draining => "draining",
            NodeState::Gone => "gone",
        }
    }
}

/// Directory: where a group's replicas should be. Raft's own membership follows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// `GroupId` of the group.
    pub group: u32,
    /// How many voters it should have.
    pub replicas: u32,
    /// Regions in which they must stand; none: anywhere.
    #[serde(default)]
    pub regions: Vec<String>,
    /// The nodes that vote; the first one should lead.
    pub voters: Vec<u32>,
    /// Nodes with a copy and no vote.
    #[serde(default)]
    pub learners: Vec<u32>,
    /// The group has had a leader. Until then its first voters are these and no others, and each
    /// of them may make it.
    #[serde(default)]
    pub made: bool,
    /// Nodes that voted before and may do so still, for all that was heard of the group. `None`:
    /// it was written before this was noted, any node may.
    #[serde(default)]
    pub leaving: Option<Vec<u32>>,
}

impl Placement {
    /// Has the group a place on the node, with or without a vote?
    pub fn is_on(&self, node: u32) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_with_stars_only() {
        for (pattern, name, expected) in [
            ("order_*", "order_v1", true),
            ("order_*", "order_", true),
            ("order_*", "orders", false),
            ("*", "", true),
            ("*_v*", "order_v1", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("order_v1", "order_v1", true),
            ("order_v1", "order_v11", false),
            ("o%", "order", false),
            ("o?der", "order", false),
        ] {
            let grant = PatternGrant {
                id: 1,
                owner: RoleId(1),
                pattern: pattern.to_owned(),
                grantee: RoleId(2),
                privileges: Privileges::READ,
            };
            assert_eq!(grant.covers(name), expected, "{pattern} {name}");
        }
    }
}
