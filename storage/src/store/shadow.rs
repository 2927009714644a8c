//! A stand-in for a store's folder that can be opened, replayed into and thrown away, while the
//! folder itself stays as it was found.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::folder;
use crate::Result;

/// Makes `into` an image of the store in `dir`: a link to each table file, which is never
/// written once it is there, and a copy of everything else (of sled: of all there is). Nobody
/// else may have the store open. A folder that does not exist has an empty image.
pub fn shadow(dir: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    match fs::canonicalize(dir) {
        Ok(dir) => copy(&dir, into, false),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn copy(from: &Path, into: &Path, tables: bool) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, path) = (entry.file_name(), entry.path());
        let target = into.join(&name);
        if entry.file_type()?.is_dir() {
            if name != folder::TMP_FOLDER {
                fs::create_dir(&target)?;
                copy(&path, &target, name == "tables")?;
            }
        } else if tables {
            symlink(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}
