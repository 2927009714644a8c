//! A scan of the snapshot with the transaction's own writes laid over it.

use std::cmp::Ordering;
use std::iter::Peekable;

use bytes::Bytes;
use storage::{Direction, Scan};

use super::writes::{OwnRange, order};
use super::{RowScan, Stop};

/// The snapshot's keys with own writes over them, in key order.
pub(super) fn merged(base: Scan, own: Option<OwnRange>, direction: Direction) -> RowScan {
    let base = base.map(|item| item.map_err(Stop::from));
    let Some(mut own) = own else {
        return Box::new(base);
    };
    if own.is_empty() {
        return Box::new(base);
    }
    Box::new(Merged {
        base: (Box::new(base) as RowScan).peekable(),
        own: own.peekable(),
        direction,
    })
}

struct Merged {
    base: Peekable<RowScan>,
    own: Peekable<OwnRange>,
    direction: Direction,
}

impl Iterator for Merged {
    type Item = Result<(Bytes, Bytes), Stop>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let side = match (self.base.peek(), self.own.peek()) {
                (None, None) => return None,
                (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
                (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
                (Some(Ok((a, _))), Some(Ok((b, _)))) => order(a, b, self.direction),
            };
            if side == Ordering::Less {
                return self.base.next();
            }
            if side == Ordering::Equal {
                self.base.next();
            }
            match self.own.next()? {
                Err(stop) => return Some(Err(stop)),
                Ok((key, Some(value))) => return Some(Ok((key, value))),
                Ok((_, None)) => {}
            }
        }
    }
}
