//! OIDs by what they name, so that no signature takes two bare numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! oids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )*};
}

oids! {
    /// `pg_class.oid` of a table, view, sequence or system relation.
    TableId,
    /// `pg_authid.oid`.
    RoleId,
    /// `pg_namespace.oid`.
    SchemaId,
    /// A column's number within its table: stable for ever, what row bytes carry.
    ColumnId,
}

impl RoleId {
    /// Grantee of what everybody may do (`PUBLIC`); no role has this OID.
    pub const PUBLIC: RoleId = RoleId(0);
    /// The superuser of the first start, as in PostgreSQL.
    pub const POSTGRES: RoleId = RoleId(10);
}

impl SchemaId {
    /// `pg_catalog`, as in PostgreSQL.
    pub const PG_CATALOG: SchemaId = SchemaId(11);
    /// `public`, as in PostgreSQL.
    pub const PUBLIC: SchemaId = SchemaId(2200);
    /// `information_schema` (any OID below 16384 in PostgreSQL).
    pub const INFORMATION: SchemaId = SchemaId(13_000);
    /// The system schema `freehold`.
    pub const FREEHOLD: SchemaId = SchemaId(13_001);
}
