//! The payload of a record: a list of images, each with its own length and CRC, encoded once and
//! written verbatim to every journal and wire. An erased image keeps its length and loses its bytes, but for
//! a few that say what was there.

use std::fmt;

use bytes::Bytes;

use crate::{Error, Result};

/// Bytes before each image: CRC (u32) and length (u32), little-endian.
pub(crate) const IMAGE_HEAD_BYTES: usize = 8;
/// Set in the length of an image that was erased.
pub(crate) const ERASED: u32 = 1 << 31;
/// The greatest size of one image.
const IMAGE_BYTES_MAX: usize = (ERASED - 1) as usize;

/// A list of images in one `Bytes`. Cloning copies nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Payload(Bytes);

impl Payload {
    /// Starts a payload.
    pub fn builder() -> PayloadBuilder {
        PayloadBuilder::default()
    }

    /// A payload of one image.
    pub fn of(image: &[u8]) -> Payload {
        Payload::builder().push(image).finish()
    }

    /// Takes bytes from outside (a peer, a file). Errors: [`Error::BadImage`], if they are not a
    /// list of whole images with the right CRCs.
    pub fn from_bytes(bytes: Bytes) -> Result<Payload> {
        let payload = Payload(bytes);
        payload.check()?;
        Ok(payload)
    }

    /// Bytes that were checked already, or are checked by `check` before anyone sees them.
    pub(crate) fn unchecked(bytes: Bytes) -> Payload {
        Payload(bytes)
    }

    /// Checks every length and CRC.
    pub(crate) fn check(&self) -> Result<()> {
        let mut at = 0;
        while at < self.0.len() {
            at = image_at(&self.0, at).ok_or(Error::BadImage { at })?.end;
        }
        Ok(())
    }

    /// The encoded form, to be sent or stored verbatim.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Size of the encoded form.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is no image.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The images in order: slices, nothing is copied, each CRC is checked. An erased image is
    /// [`Error::Erased`] (the next ones follow); damage is [`Error::BadImage`] and ends the list.
    pub fn images(&self) -> Images {
        Images {
            bytes: self.0.clone(),
            at: 0,
        }
    }

    /// Is one of the images erased? Looks at their heads alone.
    pub fn has_erased(&self) -> bool {
        let mut at = 0;
        while let Some(image) = extent_at(&self.0, at) {
            if image.erased {
                return true;
            }
            at = image.end;
        }
        false
    }

    /// The image of the given number, counted from 0.
    pub fn image(&self, number: usize) -> Option<Result<Bytes>> {
        self.images().nth(number)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// Collects images. `push` chains.
#[derive(Default)]
pub struct PayloadBuilder(Vec<u8>);

impl PayloadBuilder {
    /// Adds an image. Panics above 2 GiB, which no record can hold (a transaction above 1 MiB is
    /// journaled in parts).
    pub fn push(&mut self, image: &[u8]) -> &mut PayloadBuilder {
        assert!(
            image.len() <= IMAGE_BYTES_MAX,
            "an image holds less than 2 GiB"
        );
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        self.0
            .extend_from_slice(&(image.len() as u32).to_le_bytes());
        self.0.extend_from_slice(image);
        let crc = crc32fast::hash(&self.0[start + 4..]);
        self.0[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        self
    }

    /// Size so far, encoded.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The payload; the builder is empty again.
    pub fn finish(&mut self) -> Payload {
        Payload(Bytes::from(std::mem::take(&mut self.0)))
    }
}

/// Where one image lies in an encoded payload.
pub(crate) struct ImageAt {
    pub start: usize,
    pub end: usize,
    pub erased: bool,
}

/// The extent of the image at `at`, without a look at its CRC.
pub(crate) fn extent_at(bytes: &[u8], at: usize) -> Option<ImageAt> {
    let head = bytes.get(at..at + IMAGE_HEAD_BYTES)?;
    let len = u32::from_le_bytes(head[4..].try_into().expect("four bytes"));
    let start = at + IMAGE_HEAD_BYTES;
    let end = start.checked_add((len & !ERASED) as usize)?;
    (end <= bytes.len()).then_some(ImageAt {
        start,
        end,
        erased: len & ERASED != 0,
    })
}

/// The image at `at`, if its length and CRC are right.
fn image_at(bytes: &[u8], at: usize) -> Option<ImageAt> {
    let image = extent_at(bytes, at)?;
    #[cfg(feature = "sabotage")]
    if crate::sabotage::planted("crc-not-checked") {
        return Some(image);
    }
    let crc = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (crc32fast::hash(&bytes[at + 4..image.end]) == crc).then_some(image)
}

/// What an erased image of `len` bytes looks like, head included. What is `left` in its place
/// stands at its beginning, if it fits.
pub(crate) fn erased_image(len: usize, left: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; IMAGE_HEAD_BYTES + len];
    let left = &left[..left.len().min(len)];
    bytes[IMAGE_HEAD_BYTES..IMAGE_HEAD_BYTES + left.len()].copy_from_slice(left);
    bytes[4..8].copy_from_slice(&(len as u32 | ERASED).to_le_bytes());
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Iterator over the images of a payload.
pub struct Images {
    bytes: Bytes,
    at: usize,
}

impl Iterator for Images {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let at = self.at;
        let Some(image) = image_at(&self.bytes, at) else {
            self.at = self.bytes.len();
            return Some(Err(Error::BadImage { at }));
        };
        self.at = image.end;
        Some(if image.erased {
            let left = self.bytes.slice(image.start..image.end);
            Err(Error::Erased { left })
        } else {
            Ok(self.bytes.slice(image.start..image.end))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_back() {
        let payload = Payload::builder()
            .push(b"one")
            .push(b"")
            .push(b"three")
            .finish();
        let images: Vec<_> = payload.images().map(|i| i.expect("whole")).collect();
        assert_eq!(images, [&b"one"[..], b"", b"three"]);
        assert_eq!(
            Payload::from_bytes(payload.as_bytes().clone()).expect("whole"),
            payload
        );
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let payload = Payload::builder()
            .push(b"one")
            .push(b"")
            .push(b"three")
            .finish();
        for bit in 0..payload.len() * 8 {
            let mut bytes = payload.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Payload::from_bytes(bytes.into()).is_err(), "bit {bit}");
        }
        assert!(
            Payload::from_bytes(vec![0; 64].into()).is_err(),
            "zeros are no images"
        );
    }

    #[test]
    fn an_erased_image_says_so_and_spares_its_neighbours() {
        let payload = Payload::builder()
            .push(b"keep")
            .push(b"secret")
            .push(b"too")
            .finish();
        let mut bytes = payload.as_bytes().to_vec();
        bytes[12..26].copy_from_slice(&erased_image(6, b"at 7"));
        assert!(!payload.has_erased());
        let payload = Payload::from_bytes(bytes.into()).expect("whole");
        assert!(payload.has_erased());
        let images: Vec<_> = payload.images().collect();
        assert!(matches!(&images[1], Err(Error::Erased { left }) if left[..] == *b"at 7\0\0"));
        assert_eq!(images[2].as_ref().expect("whole"), &b"too"[..]);
    }
}
