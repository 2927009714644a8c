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

/// Does a change of this tree change what statements mean? Nobody reads behind such an entry
/// before it is applied.
pub(crate) fn is_catalog(tree: u32) -> bool {
    is_system(tree)
        && ![OUTCOMES, SEQUENCES, PARKED, TRIGGER_CURSORS, DROPPED_TREES].contains(&tree)
}

/// Is it a system tree?
pub(crate) fn is_system(tree: u32) -> bool {
    tree <= TreeId::SYSTEM_MAX
}
