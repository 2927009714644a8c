//! The numbers of the system trees that storage itself knows. `sql` numbers its own up to
//! `TreeId::SYSTEM_MAX`.

use journal::GroupId;

use crate::TreeId;

/// Descriptors of tables, indexes, functions and grants.
pub const CATALOG: u32 = 1;
/// Former descriptors.
pub const CATALOG_HISTORY: u32 = 2;
/// Outcomes of transactions: txid -> position, both u64 big-endian. Written by apply.
pub const OUTCOMES: u32 = 3;
/// Reserved ranges of sequences.
pub const SEQUENCES: u32 = 4;
/// What was set aside after an error.
pub const PARKED: u32 = 6;
/// How far triggers have run on other groups' entries.
pub const TRIGGER_CURSORS: u32 = 7;
/// Keys of other groups' tables that nothing here may begin to reference.
pub const FENCED: u32 = 8;
/// What this group has prepared for the case that another one removes keys.
pub const PREPARED: u32 = 9;
/// Keys that this group is about to remove, and other groups reference.
pub const INTENTS: u32 = 20;
/// Locks that outlive the leader under which they were taken.
pub const LOCKS: u32 = 21;
/// What is to be erased. Written by apply, forgotten by each copy (`erase.rs`).
pub const LEDGER: u32 = 22;
/// How far what was removed is erased, and in which copies.
pub const ERASURES: u32 = 23;
/// How much of their history trees keep: see [`crate::Keep`].
pub const KEPT_TREES: u32 = 30;
/// Trees that are dropped: number u32 -> position u64, big-endian. Written by apply.
pub const DROPPED_TREES: u32 = 999;

/// The first of the outboxes: above all OIDs that are given out.
const OUTBOXES: u32 = 1 << 31;

/// The tree in which a group has what it sends to another one, and how far it has taken what that one
/// sends. Its copies are where the other group is.
pub fn outbox(to: GroupId) -> u32 {
    OUTBOXES | to.0
}

/// Whose outbox is the tree? The group that it is sent to.
pub fn outbox_to(tree: u32) -> Option<GroupId> {
    (tree >= OUTBOXES).then_some(GroupId(tree & !OUTBOXES))
}

/// Marks the tree of another one's keys: below the outboxes, above all OIDs that are given out.
const KEYS: u32 = 1 << 30;

/// The tree of the keys alone of a table or an index, every value empty: what a follower holds of
/// what it references and may not read. A replica has the tree itself, and none like this.
pub fn keys_of(tree: u32) -> u32 {
    tree | KEYS
}

/// Of which tree are these the keys?
pub fn of_keys(tree: u32) -> Option<u32> {
    let is = tree & KEYS != 0 && outbox_to(tree).is_none();
    is.then_some(tree & !KEYS)
}

/// The tree, or the one of which it has the keys.
pub fn tree_of(tree: u32) -> u32 {
    of_keys(tree).unwrap_or(tree)
}

/// Does a change of this tree change what statements mean? Nobody reads behind such an entry
/// before it is applied.
pub(crate) fn is_catalog(tree: u32) -> bool {
    let rows = [
        OUTCOMES,
        SEQUENCES,
        PARKED,
        TRIGGER_CURSORS,
        FENCED,
        PREPARED,
        INTENTS,
        LOCKS,
        LEDGER,
        ERASURES,
        KEPT_TREES,
        DROPPED_TREES,
    ];
    is_system(tree) && !rows.contains(&tree)
}

/// Does it hold rows of a table, or of an index of one?
pub fn is_of_table(tree: u32) -> bool {
    !is_system(tree) && outbox_to(tree).is_none()
}

/// Is it a system tree?
pub(crate) fn is_system(tree: u32) -> bool {
    tree <= TreeId::SYSTEM_MAX
}
