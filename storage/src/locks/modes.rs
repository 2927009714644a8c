//! PostgreSQL's conflict tables as bit masks: one bit per mode within the class of its key.

use super::{LockKey, LockMode, RowMode, TableMode};

/// A set of modes of one class, one bit each.
pub(super) type Modes = u8;

impl RowMode {
    /// All, weakest first.
    pub const ALL: [RowMode; 4] = [
        RowMode::KeyShare,
        RowMode::Share,
        RowMode::NoKeyUpdate,
        RowMode::Update,
    ];

    /// PostgreSQL's table 13.3.
    fn conflicts(self) -> Modes {
        match self {
            RowMode::KeyShare => 0b1000,
            RowMode::Share => 0b1100,
            RowMode::NoKeyUpdate => 0b1110,
            RowMode::Update => 0b1111,
        }
    }
}

impl TableMode {
    /// All, in PostgreSQL's order.
    pub const ALL: [TableMode; 8] = [
        TableMode::AccessShare,
        TableMode::RowShare,
        TableMode::RowExclusive,
        TableMode::ShareUpdateExclusive,
        TableMode::Share,
        TableMode::ShareRowExclusive,
        TableMode::Exclusive,
        TableMode::AccessExclusive,
    ];

    /// PostgreSQL's table 13.2. The first mode is the lowest bit.
    fn conflicts(self) -> Modes {
        match self {
            TableMode::AccessShare => 0b1000_0000,
            TableMode::RowShare => 0b1100_0000,
            TableMode::RowExclusive => 0b1111_0000,
            TableMode::ShareUpdateExclusive => 0b1111_1000,
            TableMode::Share => 0b1110_1100,
            TableMode::ShareRowExclusive => 0b1111_1100,
            TableMode::Exclusive => 0b1111_1110,
            TableMode::AccessExclusive => 0b1111_1111,
        }
    }
}

impl LockMode {
    /// Its bit.
    pub(super) fn bit(self) -> Modes {
        match self {
            LockMode::Row(mode) => 1 << mode as u8,
            LockMode::Table(mode) => 1 << mode as u8,
            LockMode::Shared => 1,
            LockMode::Exclusive => 2,
        }
    }

    /// The modes that no other actor may hold beside it.
    pub(super) fn conflicts(self) -> Modes {
        match self {
            LockMode::Row(mode) => mode.conflicts(),
            LockMode::Table(mode) => mode.conflicts(),
            LockMode::Shared => 0b10,
            LockMode::Exclusive => 0b11,
        }
    }

    /// Does this mode go with the key?
    pub(super) fn fits(self, key: &LockKey) -> bool {
        matches!(
            (self, key),
            (LockMode::Row(_), LockKey::Row { .. })
                | (LockMode::Table(_), LockKey::Table(_))
                | (
                    LockMode::Shared | LockMode::Exclusive,
                    LockKey::Advisory(_) | LockKey::Advisory2(..) | LockKey::Object { .. },
                )
        )
    }

    /// Blocks every other request of its class.
    pub(super) fn is_exclusive(self) -> bool {
        matches!(
            self,
            LockMode::Row(RowMode::Update)
                | LockMode::Table(TableMode::AccessExclusive)
                | LockMode::Exclusive
        )
    }

    /// The modes of a set, of the class of `self`.
    pub(super) fn of_class(self, modes: Modes) -> impl Iterator<Item = LockMode> {
        (0..8)
            .filter(move |bit| modes & (1 << bit) != 0)
            .map(move |bit| match self {
                LockMode::Row(_) => LockMode::Row(RowMode::ALL[bit]),
                LockMode::Table(_) => LockMode::Table(TableMode::ALL[bit]),
                LockMode::Shared | LockMode::Exclusive => {
                    [LockMode::Shared, LockMode::Exclusive][bit]
                }
            })
    }

    /// Do the modes `held` keep out all that this mode would keep out? Conflicts are symmetric,
    /// so nobody can hold what conflicts with it either.
    pub(super) fn covered_by(self, held: Modes) -> bool {
        let kept_out = || {
            self.of_class(held)
                .fold(0, |modes, held| modes | held.conflicts())
        };
        held & self.bit() != 0 || held != 0 && self.conflicts() & !kept_out() == 0
    }
}
