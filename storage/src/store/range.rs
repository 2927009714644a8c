//! Ranges of keys as the stores take them: never inverted, never with a key too long to store.

use std::ops::Bound;

use bytes::Bytes;

use super::KEY_BYTES_MAX;

/// Bounds of keys.
pub(super) type Range = (Bound<Bytes>, Bound<Bytes>);

/// A range with keys that can be stored, or `None` if nothing can be in it.
pub(super) fn clip((lower, upper): Range) -> Option<Range> {
    let long = |key: &Bytes| key.len() > KEY_BYTES_MAX;
    // What is longer than any stored key lies right behind its own prefix.
    let lower = match lower {
        Bound::Included(key) | Bound::Excluded(key) if long(&key) => {
            Bound::Excluded(key.slice(..KEY_BYTES_MAX))
        }
        lower => lower,
    };
    let upper = match upper {
        Bound::Included(key) | Bound::Excluded(key) if long(&key) => {
            Bound::Included(key.slice(..KEY_BYTES_MAX))
        }
        upper => upper,
    };
    let possible = match (&lower, &upper) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Included(low), Bound::Included(high)) => low <= high,
        (Bound::Included(low), Bound::Excluded(high))
        | (Bound::Excluded(low), Bound::Included(high))
        | (Bound::Excluded(low), Bound::Excluded(high)) => low < high,
    };
    possible.then_some((lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_impossible_and_overlong_bounds() {
        let bytes = |n: usize| Bytes::from(vec![7; n]);
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        assert!(clip((Bound::Included(b.clone()), Bound::Included(a.clone()))).is_none());
        assert!(clip((Bound::Included(a.clone()), Bound::Excluded(a.clone()))).is_none());
        assert!(clip((Bound::Included(a.clone()), Bound::Included(a))).is_some());
        assert!(clip((Bound::Unbounded, Bound::Excluded(b))).is_some());
        let long = bytes(KEY_BYTES_MAX + 9);
        let (lower, upper) = clip((Bound::Included(long.clone()), Bound::Unbounded)).unwrap();
        assert_eq!(
            (lower, upper),
            (Bound::Excluded(bytes(KEY_BYTES_MAX)), Bound::Unbounded)
        );
        let (_, upper) = clip((Bound::Unbounded, Bound::Excluded(long))).unwrap();
        assert_eq!(upper, Bound::Included(bytes(KEY_BYTES_MAX)));
    }
}
