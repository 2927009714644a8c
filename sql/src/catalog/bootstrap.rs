//! What exists before any entry (system schemas, system relations), and what the first entry of
//! a new cluster writes (the superuser).

use std::collections::BTreeMap;
use std::sync::Arc;

use storage::{GroupId, Position};

use super::codec::{self, SystemWrite};
use super::{
    Acl, AclItem, Catalog, Change, Column, ColumnId, Key, Object, Privilege, Privileges, Role,
    RoleId, Schema, SchemaId, Table, TableId, TableKind,
};
use crate::system::{SystemColumn, SystemRelation};

/// The one database.
pub const DATABASE: &str = "freehold";
/// Its OID in `pg_database`.
pub const DATABASE_OID: u32 = 5;
/// The superuser of the first start.
pub const SUPERUSER: &str = "postgres";
/// OID of the superuser's private schema.
const SUPERUSER_SCHEMA: SchemaId = SchemaId(13_002);
/// Relations without an OID of their own are numbered from here.
const SYSTEM_OIDS: u32 = 14_000;

impl Catalog {
    /// System schemas, `public`, and descriptors of the given system relations.
    pub fn base(relations: &[Arc<dyn SystemRelation>]) -> Catalog {
        let mut catalog = Catalog::default();
        for (id, name, comment) in [
            (SchemaId::PG_CATALOG, "pg_catalog", "system catalog schema"),
            (SchemaId::INFORMATION, "information_schema", ""),
            (SchemaId::FREEHOLD, "freehold", "system schema of Freehold"),
            (SchemaId::PUBLIC, "public", "standard public schema"),
        ] {
            catalog
                .schemas
                .insert_mut(id, Arc::new(system_schema(id, name, comment)));
            catalog.schema_names.insert_mut(name.to_owned(), id);
        }
        catalog.with_system(relations)
    }

    /// Adds descriptors of further system relations.
    #[must_use]
    pub fn with_system(&self, relations: &[Arc<dyn SystemRelation>]) -> Catalog {
        let mut catalog = self.clone();
        for relation in relations {
            let oid = match relation.oid() {
                0 => catalog.next_system_oid(),
                oid => oid,
            };
            let (schema, _) = relation.name();
            let Some(schema) = catalog.schema_by_name(schema).map(|s| s.id) else {
                continue;
            };
            let table = system_table(oid, schema, relation.as_ref());
            catalog.change(&Change::create(
                GroupId::DIRECTORY,
                Object::Table(Arc::new(table)),
            ));
        }
        catalog.version = super::snapshot::fresh_version();
        catalog
    }

    fn next_system_oid(&self) -> u32 {
        let range = TableId(SYSTEM_OIDS)..TableId(super::directory::FIRST_OID);
        self.tables
            .range(range)
            .next_back()
            .map_or(SYSTEM_OIDS, |(id, _)| id.0 + 1)
    }
}

/// What the superuser grants from the beginning.
fn item(grantee: RoleId, privileges: Privileges) -> AclItem {
    AclItem {
        grantee,
        grantor: RoleId::POSTGRES,
        privileges,
        options: Privileges::NONE,
    }
}

fn system_schema(id: SchemaId, name: &str, comment: &str) -> Schema {
    let everybody = if id == SchemaId::PUBLIC {
        Privileges::SCHEMA
    } else {
        Privilege::Usage.into()
    };
    let acl = Acl(vec![
        item(RoleId::POSTGRES, Privileges::SCHEMA),
        item(RoleId::PUBLIC, everybody),
    ]);
    Schema {
        id,
        name: name.to_owned(),
        owner: RoleId::POSTGRES,
        acl: Some(acl),
        comment: (!comment.is_empty()).then(|| comment.to_owned()),
    }
}

fn system_table(oid: u32, schema: SchemaId, relation: &dyn SystemRelation) -> Table {
    let public = || item(RoleId::PUBLIC, Privilege::Select.into());
    let confidential = |c: &SystemColumn| relation.is_confidential(c.name);
    let hides = relation.columns().iter().any(confidential);
    let mut acl = vec![item(RoleId::POSTGRES, Privileges::TABLE)];
    acl.extend((!hides).then(public));
    let columns = relation
        .columns()
        .iter()
        .enumerate()
        .map(|(at, column)| Column {
            id: ColumnId(at as u32 + 1),
            number: at as i16 + 1,
            name: column.name.to_owned(),
            ty: column.ty,
            not_null: column.not_null,
            default: None,
            identity: None,
            generated: None,
            missing: None,
            dropped: false,
            acl: (hides && !confidential(column)).then(|| Acl(vec![public()])),
            comment: None,
            default_id: 0,
        });
    Table {
        id: TableId(oid),
        owner: RoleId::POSTGRES,
        group: GroupId::DIRECTORY,
        schema,
        name: relation.name().1.to_owned(),
        kind: TableKind::System,
        tree: 0,
        key: Key::RowId,
        columns: columns.collect(),
        indexes: Vec::new(),
        constraints: Vec::new(),
        referenced_by: Vec::new(),
        registered: Vec::new(),
        acl: Some(Acl(acl)),
        options: BTreeMap::new(),
        comment: None,
        depends_on: Vec::new(),
        projection: None,
        history: None,
        former: Vec::new(),
        moving: None,
        since: Position::ZERO,
    }
}

/// The directory rows of a new cluster: the superuser, with a password or without.
pub fn first_rows(verifier: Option<String>) -> Vec<SystemWrite> {
    let role = Role {
        id: RoleId::POSTGRES,
        name: SUPERUSER.to_owned(),
        schema: SUPERUSER_SCHEMA,
        superuser: true,
        inherit: true,
        create_role: true,
        create_db: true,
        login: true,
        replication: true,
        bypass_rls: true,
        connection_limit: -1,
        verifier,
        valid_until: None,
        settings: Vec::new(),
        comment: None,
    };
    codec::rows(&Change::create(
        GroupId::DIRECTORY,
        Object::Role(Arc::new(role)),
    ))
}
