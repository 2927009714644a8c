//! Until journal has it.
#![allow(dead_code, missing_docs)]

use std::fmt;

use bytes::Bytes;

/// Until `journal` has it.
#[derive(Debug)]
pub enum Error {
    Erased,
    BadImage { at: usize },
}
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
type Result<T> = std::result::Result<T, Error>;

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
    let crc = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    (crc32fast::hash(&bytes[at + 4..image.end]) == crc).then_some(image)
}

/// What an erased image of `len` bytes looks like, head included.
pub(crate) fn erased_image(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; IMAGE_HEAD_BYTES + len];
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
            Err(Error::Erased)
        } else {
            Ok(self.bytes.slice(image.start..image.end))
        })
    }
}
