//! A key of the overlay with its first bytes beside it, so that most comparisons on the way down
//! a tree need not follow the pointer to the rest.

use std::borrow::Borrow;
use std::cmp::Ordering;

use bytes::Bytes;

/// A key in the map.
#[derive(Clone, Debug)]
pub(super) struct Key {
    prefix: u128,
    bytes: Bytes,
}

impl Key {
    pub fn new(bytes: Bytes) -> Key {
        Key {
            prefix: prefix(&bytes),
            bytes,
        }
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// A key to look for.
pub(super) struct Probe<'a>(u128, &'a [u8]);

impl<'a> Probe<'a> {
    pub fn new(bytes: &'a [u8]) -> Probe<'a> {
        Probe(prefix(bytes), bytes)
    }
}

/// What [`Key`] and [`Probe`] have in common: the form in which the map compares.
pub(super) trait Compare {
    fn parts(&self) -> (u128, &[u8]);
}

impl Compare for Key {
    fn parts(&self) -> (u128, &[u8]) {
        (self.prefix, &self.bytes)
    }
}

impl Compare for Probe<'_> {
    fn parts(&self) -> (u128, &[u8]) {
        (self.0, self.1)
    }
}

/// The first bytes, big-endian, filled up with zeros: where two prefixes differ, the keys differ
/// in the same direction.
fn prefix(bytes: &[u8]) -> u128 {
    let mut first = [0; 16];
    let length = bytes.len().min(first.len());
    first[..length].copy_from_slice(&bytes[..length]);
    u128::from_be_bytes(first)
}

fn compare(a: &(impl Compare + ?Sized), b: &(impl Compare + ?Sized)) -> Ordering {
    a.parts().cmp(&b.parts())
}

impl<'a> Borrow<dyn Compare + 'a> for Key {
    fn borrow(&self) -> &(dyn Compare + 'a) {
        self
    }
}

impl Ord for dyn Compare + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other)
    }
}

impl PartialOrd for dyn Compare + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Compare + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Compare + '_ {}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        compare(self, other)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_bytes(a in vec(0u8..3, 0..20), b in vec(0u8..3, 0..20)) {
            let expected = a.cmp(&b);
            prop_assert_eq!(compare(&Probe::new(&a), &Probe::new(&b)), expected);
            prop_assert_eq!(Key::new(a.into()).cmp(&Key::new(b.into())), expected);
        }
    }
}
