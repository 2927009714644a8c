//! The table store on sled: one tree, versions in the key.

use std::path::Path;

use super::StoreOptions;
use super::folder::Folder;
use super::lsm::LsmStore;
use crate::{Error, Result};

/// Opens the store of a folder.
pub(super) fn open(dir: &Path, _: StoreOptions) -> Result<LsmStore> {
    Folder::open(dir, super::StoreKind::Sled)?;
    Err(Error::Format(
        "the table store \"sled\" is not built in".into(),
    ))
}
