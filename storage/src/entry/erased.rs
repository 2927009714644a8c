//! The bytes that an eraser leaves in the place of an image: which change or event it was, of which tree,
//! and where its row was removed. No key, no value, and nothing made of them.
//!
//! ```text
//! 9 | what u8 | feed u8 | 0 | seq u32 | tree u32 | position u64      little-endian; zeros follow
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use journal::Position;

use super::{Erased, ErasedImage};

const KIND: u8 = 9;
/// Of an image that was shorter the end is missing: the position, which is the entry's own.
const LEFT_BYTES_MIN: usize = 12;

impl Erased {
    /// What is left.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        let what = match self.what {
            ErasedImage::Unknown => 0,
            ErasedImage::Change => 1,
            ErasedImage::Rest => 2,
            ErasedImage::Removal => 3,
            ErasedImage::Event => 4,
            ErasedImage::Dropped => 5,
        };
        out.put_slice(&[KIND, what, u8::from(self.feed), 0]);
        out.put_u32_le(self.seq);
        out.put_u32_le(self.tree);
        out.put_u64_le(self.at.0);
        out.freeze()
    }

    /// What was left; unknown, if it is nothing that this program would leave.
    pub(super) fn decode(left: &[u8]) -> Erased {
        if left.len() < LEFT_BYTES_MIN || left[0] != KIND {
            return Erased::default();
        }
        let what = match left[1] {
            1 => ErasedImage::Change,
            2 => ErasedImage::Rest,
            3 => ErasedImage::Removal,
            4 => ErasedImage::Event,
            5 => ErasedImage::Dropped,
            _ => return Erased::default(),
        };
        let number = |at: usize| {
            let four = left[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(four)
        };
        let at = left.get(12..20).map(|eight| {
            let eight = eight.try_into().expect("eight bytes");
            Position(u64::from_le_bytes(eight))
        });
        Erased {
            what,
            seq: number(4),
            tree: number(8),
            feed: left[2] != 0,
            at: at.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_comes_back() {
        use ErasedImage::{Change, Dropped, Event, Removal, Rest};
        for what in [Change, Rest, Removal, Event, Dropped] {
            let erased = Erased {
                what,
                seq: 7,
                tree: 1000,
                feed: what == ErasedImage::Removal,
                at: Position(0x0102_0304_0506),
            };
            let bytes = erased.encode();
            assert_eq!(Erased::decode(&bytes), erased);
            let longer = [&bytes[..], &[0; 9]].concat();
            assert_eq!(Erased::decode(&longer), erased);
            let at = Position::ZERO;
            assert_eq!(Erased::decode(&bytes[..12]), Erased { at, ..erased });
        }
        assert_eq!(Erased::decode(&[0; 40]), Erased::default());
        assert_eq!(Erased::decode(b"9"), Erased::default());
    }
}
