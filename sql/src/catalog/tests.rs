//! The bytes of descriptors, and what the cache makes of rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use storage::{GroupId, Position};

use super::*;
use crate::types::Type;

fn column(number: i16, name: &str, ty: Type) -> Column {
    Column {
        id: ColumnId(number as u32),
        number,
        name: name.to_owned(),
        ty,
        not_null: number == 1,
        default: (number == 2).then(|| "'x'".to_owned()),
        identity: None,
        generated: None,
        missing: (number == 2).then(|| vec![1, 2]),
        dropped: false,
        acl: None,
        comment: None,
        default_id: if number == 2 { 16_390 } else { 0 },
    }
}

fn table() -> Table {
    Table {
        id: TableId(16_400),
        owner: RoleId(16_384),
        group: GroupId(1),
        schema: SchemaId(16_385),
        name: "orders".to_owned(),
        kind: TableKind::Table,
        tree: 16_400,
        key: Key::Primary(vec![ColumnId(1)]),
        columns: vec![column(1, "id", Type::INT4), column(2, "note", Type::TEXT)],
        indexes: vec![Index {
            id: 16_401,
            name: "orders_pkey".to_owned(),
            tree: 16_400,
            columns: vec![IndexColumn {
                what: IndexKey::Column(ColumnId(1)),
                descending: false,
                nulls_first: false,
                class: None,
            }],
            include: Vec::new(),
            unique: true,
            nulls_not_distinct: false,
            primary: true,
            predicate: None,
            state: IndexState::Ready,
            method: "btree".to_owned(),
            options: BTreeMap::new(),
            comment: None,
            clustered: false,
        }],
        constraints: vec![Constraint::Primary {
            id: 16_402,
            name: "orders_pkey".to_owned(),
            index: 16_401,
            comment: None,
        }],
        referenced_by: vec![(TableId(16_500), 16_501)],
        registered: Vec::new(),
        acl: Some(Acl(vec![AclItem {
            grantee: RoleId(16_386),
            grantor: RoleId(16_384),
            privileges: Privileges::READ,
            options: Privileges::NONE,
        }])),
        options: BTreeMap::new(),
        comment: Some("c".to_owned()),
        depends_on: Vec::new(),
        projection: None,
        history: None,
        former: Vec::new(),
        moving: None,
        since: Position(77),
    }
}

/// A projection of the `id`s of `orders`, joined by one foreign key.
fn projection() -> Table {
    Table {
        id: TableId(16_600),
        schema: SchemaId::PUBLIC,
        name: "order_v2".to_owned(),
        tree: 16_600,
        columns: vec![column(1, "id", Type::INT4)],
        indexes: Vec::new(),
        constraints: Vec::new(),
        referenced_by: Vec::new(),
        registered: Vec::new(),
        acl: None,
        comment: None,
        depends_on: vec![
            (TableId(16_400), vec![ColumnId(1)]),
            (TableId(16_500), vec![ColumnId(1)]),
        ],
        projection: Some(Projection {
            definition: "SELECT o.id FROM more.orders o".to_owned(),
            keys: vec![16_501],
            state: IndexState::Building,
        }),
        ..table()
    }
}

/// Every kind of descriptor, by its bytes in format 1: a change of these needs a new format.
#[test]
fn golden_bytes() {
    let objects = [
        Object::Table(Arc::new(table())),
        Object::Schema(Arc::new(Schema {
            id: SchemaId(16_385),
            name: "more".to_owned(),
            owner: RoleId(16_384),
            acl: None,
            comment: None,
        })),
        Object::Pattern(Arc::new(PatternGrant {
            id: 16_410,
            owner: RoleId(16_384),
            pattern: "order_*".to_owned(),
            grantee: RoleId(16_386),
            privileges: Privileges::READ,
        })),
        Object::Membership(Membership {
            role: RoleId(16_384),
            member: RoleId(16_386),
            grantor: RoleId(10),
            admin: true,
        }),
        Object::Owner(Owner {
            role: RoleId(16_384),
            group: 1,
        }),
        Object::Reservation(Arc::new(Reservation {
            schema: SchemaId::PUBLIC,
            name: "order_v1".to_owned(),
            role: RoleId(16_384),
            taken_at: 5,
        })),
        Object::Follow(Arc::new(Follow {
            role: RoleId(16_386),
            what: Followed::Table(TableId(16_400)),
        })),
        Object::Follow(Arc::new(Follow {
            role: RoleId(16_386),
            what: Followed::Pattern("order_*".to_owned()),
        })),
        Object::LastRead(LastRead {
            table: TableId(16_400),
            role: RoleId(16_386),
            at: 9,
        }),
        Object::Table(Arc::new(projection())),
        Object::Routine(Arc::new(Routine {
            id: 16_600,
            owner: RoleId(16_384),
            group: GroupId(1),
            schema: SchemaId(16_385),
            name: "f".to_owned(),
            arguments: vec![Argument {
                name: Some("a".to_owned()),
                ty: Type::INT4,
                default: Some("1".to_owned()),
            }],
            returns: Type::TEXT,
            language: Language::Plpgsql,
            source: "BEGIN RETURN a; END".to_owned(),
            volatility: Volatility::Stable,
            strict: true,
            acl: None,
            comment: Some("c".to_owned()),
        })),
        Object::Trigger(Arc::new(Trigger {
            id: 16_601,
            owner: RoleId(16_384),
            group: GroupId(1),
            table: TableId(16_400),
            name: "t".to_owned(),
            routine: 16_600,
            timing: Timing::InsteadOf,
            events: Events {
                insert: true,
                update: true,
                delete: false,
            },
            columns: vec![ColumnId(2)],
            when: Some("new.note = 'x'".to_owned()),
            arguments: vec!["a".to_owned()],
            enabled: Enabled::Replica,
            comment: None,
            after: None,
            source: None,
        })),
        Object::Table(Arc::new(Table {
            former: vec![GroupId(3), GroupId(1)],
            moving: Some(Moving::Leaving { to: RoleId(16_386) }),
            ..table()
        })),
    ];
    let golden = include_str!("golden.txt");
    for (object, line) in objects.iter().zip(golden.lines()) {
        let bytes = encode(object);
        let text = String::from_utf8_lossy(&bytes[2..]).into_owned();
        assert_eq!(format!("{} {} {text}", bytes[0], bytes[1]), line);
        assert_eq!(decode(&bytes).expect("own bytes"), *object);
    }
    assert_eq!(golden.lines().count(), objects.len());
}

#[test]
fn damaged_rows_are_refused() {
    let bytes = encode(&Object::Table(Arc::new(table())));
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err(), "{end}");
    }
    let mut newer = bytes.to_vec();
    newer[0] = 9;
    assert_eq!(decode(&newer).expect_err("newer").state().as_str(), "XX001");
    newer[0] = 1;
    newer[1] = 99;
    assert!(decode(&newer).is_err());
}

#[test]
fn acl_text_is_postgresqls() {
    let mut acl = Acl::of_owner(RoleId(1), Privileges::TABLE);
    acl.grant(RoleId(2), RoleId(1), Privilege::Select.into(), true);
    acl.grant(
        RoleId::PUBLIC,
        RoleId(1),
        Privilege::References.into(),
        false,
    );
    let name = |role: RoleId| format!("r{role}");
    let texts: Vec<String> = acl.0.iter().map(|i| i.text(name)).collect();
    assert_eq!(texts, ["r1=arwdDxt/r1", "r2=r*/r1", "=x/r1"]);
}

/// A copy that begins again: what was dropped meanwhile goes, and nobody else's things do.
#[test]
fn loading_again_forgets_what_is_gone() {
    let mut fixture = crate::ddl::tests::Fixture::with_roles();
    fixture.ok("a", "CREATE TABLE public.gone_v1 (id int PRIMARY KEY)");
    fixture.ok("a", "GRANT READ ON gone_* TO b");
    fixture.ok("b", "CREATE TABLE public.stays_v1 (id int PRIMARY KEY)");
    let before = fixture.catalog();
    let cache = Cache::new(Catalog::clone(&before));
    let as_of = before.as_of(GroupId(1));
    let none = |_| -> crate::Result<Rows<'static>> { Ok(Box::new(std::iter::empty())) };
    let earlier = Position(as_of.0 - 1);
    assert!(!cache.load(GroupId(1), earlier, none).expect("no rows"));
    fixture.same(&cache.get(), &before);
    let later = Position(as_of.0 + 1);
    assert!(cache.load(GroupId(1), later, none).expect("no rows"));
    let after = cache.get();
    let names: Vec<&str> = after.tables().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["stays_v1"]);
    assert_eq!((after.patterns().count(), after.roles().count()), (0, 4));
    assert_eq!(after.schemas().count(), before.schemas().count());
    // An entry from before, of a copy that begins further back, changes nothing.
    let table = before.tables().find(|t| t.name == "gone_v1").cloned();
    let old = Change::create(GroupId(1), Object::Table(table.expect("was there")));
    let rows = super::rows(&old);
    let rows = || {
        rows.iter()
            .map(|w| (w.tree, w.key.as_ref(), w.value.as_deref()))
    };
    assert!(!cache.apply(GroupId(1), later, rows()).expect("own rows"));
    assert_eq!(cache.get().tables().count(), 1);
    let next = Position(later.0 + 1);
    assert!(cache.apply(GroupId(1), next, rows()).expect("own rows"));
    assert_eq!(cache.get().tables().count(), 2);
}

/// Patterns go by the name: with another one a table may be read by others than before.
#[test]
fn a_name_that_patterns_may_cover_is_not_left_unnoticed() {
    let changed = |schema: SchemaId, with: fn(&mut Table)| {
        let mut old = table();
        old.schema = schema;
        let mut new = old.clone();
        with(&mut new);
        let [old, new] = [old, new].map(|table| Object::Table(Arc::new(table)));
        Change::replace(GroupId(1), old, new).takes_away()
    };
    let rename = |table: &mut Table| table.name = "other".to_owned();
    let become_inbox = |table: &mut Table| {
        table.options.insert("inbox".to_owned(), "true".to_owned());
    };
    let comment = |table: &mut Table| table.comment = None;
    assert!(changed(SchemaId::PUBLIC, rename));
    assert!(!changed(SchemaId(16_385), rename), "no pattern covers it");
    assert!(changed(SchemaId::PUBLIC, become_inbox));
    assert!(!changed(SchemaId::PUBLIC, comment));
}

/// Both descriptors of a table on its way, entry by entry, in whatever order a node learns of them.
#[test]
fn which_descriptor_holds_does_not_depend_on_what_is_known_first() {
    let theirs = |moving| Table { moving, ..table() };
    let ours = |moving| {
        let mut ours = Table {
            moving: Some(moving),
            tree: 17_001,
            ..table()
        };
        ours.give(RoleId(2), GroupId(2));
        ours
    };
    let to = RoleId(2);
    let put = |catalog: &mut Catalog, group: u32, old: Option<&Table>, new: Option<&Table>| {
        let object = |table: &Table| Object::Table(Arc::new(table.clone()));
        catalog.change(&Change {
            group: GroupId(group),
            old: old.map(object),
            new: new.map(object),
        });
    };
    let steps_of = |group: u32| -> Vec<(Option<Table>, Option<Table>)> {
        let states = match group {
            1 => vec![
                Some(theirs(None)),
                Some(theirs(Some(Moving::Leaving { to }))),
                Some(theirs(Some(Moving::Left { to }))),
                None,
            ],
            _ => vec![
                None,
                Some(ours(Moving::Arriving { full: false })),
                Some(ours(Moving::Arrived)),
            ],
        };
        states
            .windows(2)
            .map(|two| (two[0].clone(), two[1].clone()))
            .collect()
    };
    let (a, b) = (steps_of(1), steps_of(2));
    // Every interleaving of the two logs: bits say whose entry is next.
    for order in 0..1u32 << (a.len() + b.len()) {
        if order.count_ones() as usize != b.len() {
            continue;
        }
        let mut catalog = Catalog::default();
        put(&mut catalog, 1, None, Some(&theirs(None)));
        let (mut at_a, mut at_b) = (0, 0);
        for bit in 0..a.len() + b.len() {
            let (group, step) = match order >> bit & 1 {
                0 => (1, &a[at_a]),
                _ => (2, &b[at_b]),
            };
            put(&mut catalog, group, step.0.as_ref(), step.1.as_ref());
            match group {
                1 => at_a += 1,
                _ => at_b += 1,
            }
            let found = catalog.relation_by_name(table().schema, "orders");
            let held = found.map(|found| found.table().group);
            // What its former owner has removed holds until it is known to have arrived.
            let expected = if at_b == b.len() { 2 } else { 1 };
            assert_eq!(held, Some(GroupId(expected)), "{order:b} after {bit}");
        }
        assert_eq!(catalog.tables_aside().count(), 0);
        assert!(catalog.gone.is_empty());
        assert_eq!(catalog.table(table().id).map(|t| t.owner), Some(to));
    }
}

/// There, and back to the group that has removed it, where nothing is known of the one in between.
#[test]
fn what_has_come_back_holds_where_it_is_not_known_where_it_was() {
    let to = RoleId(2);
    let of = |former: Vec<GroupId>, moving, tree| Table {
        former,
        moving,
        tree,
        ..table()
    };
    let left = of(Vec::new(), Some(Moving::Left { to }), 16_400);
    let back = vec![GroupId(1), GroupId(2)];
    let arriving = of(back.clone(), Some(Moving::Arriving { full: true }), 17_001);
    let arrived = of(back, Some(Moving::Arrived), 17_001);
    let mut catalog = Catalog::default();
    let states = [None, Some(left), None, Some(arriving), Some(arrived)];
    for two in states.windows(2) {
        let object = |table: &Table| Object::Table(Arc::new(table.clone()));
        catalog.change(&Change {
            group: GroupId(1),
            old: two[0].as_ref().map(object),
            new: two[1].as_ref().map(object),
        });
        assert!(catalog.table(table().id).is_some());
    }
    let held = catalog.table_in(GroupId(1), table().id);
    assert_eq!(held.map(|held| held.tree), Some(17_001));
    assert!(catalog.gone.is_empty());
    assert_eq!(catalog.tables_aside().count(), 0);
}
