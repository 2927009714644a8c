//! Who a node is, in a file of its data folder: which folder, which cluster, which number. It is
//! written a few times in a node's life: when the folder is made, when a cluster has taken it in, when
//! its journal is there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The file in the data folder.
const FILE: &str = "identity";
/// The version of the file.
const FORMAT: u32 = 1;
/// What is said of a folder that has lost its journal.
const LOST: &str = "the journal of this folder was lost, and what the node has voted and acknowledged \
    with it: restore it, or start with an empty folder, and the node joins under a new number";
/// The first node of a cluster.
pub const FIRST_NODE: u32 = 1;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    format: u32,
    /// Of this folder. A copy of it is the same node, and must not run beside it.
    pub incarnation: Uuid,
    /// The cluster and this node's number in it, once there is one.
    pub member: Option<Member>,
    /// This node begins the cluster, and has not written its directory yet.
    #[serde(default)]
    pub founding: bool,
    /// The folder has a journal: without one, the node has lost what it has voted.
    #[serde(default)]
    opened: bool,
}

/// Membership in a cluster: given once, never taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The cluster.
    pub cluster: Uuid,
    /// The node's number in it.
    pub node: u32,
}

impl Stored {
    /// Of a data folder; made if there is none. A folder of a time before there were clusters
    /// (`used`: its journal has something) is the first node of its own. Errors: the journal that
    /// was there is gone.
    pub fn of(data: &Path, used: bool) -> io::Result<Stored> {
        if let Some(stored) = read(data)? {
            return match stored.opened && !used {
                false => Ok(stored),
                true => Err(io::Error::other(LOST)),
            };
        }
        fs::create_dir_all(data)?;
        let stored = Stored {
            format: FORMAT,
            incarnation: Uuid::new_v4(),
            member: used.then(Member::first),
            founding: false,
            opened: false,
        };
        stored.write(data)?;
        Ok(stored)
    }

    /// Becomes a member of a cluster, durably; `founding`: of its own.
    pub fn join(&mut self, data: &Path, member: Member, founding: bool) -> io::Result<()> {
        self.member = Some(member);
        self.founding = founding;
        self.write(data)
    }

    /// The cluster's directory is there: whoever finds none from now on has lost it.
    pub fn founded(&mut self, data: &Path) -> io::Result<()> {
        self.founding = false;
        self.write(data)
    }

    /// The folder has a journal, in which votes may stand from now on.
    pub fn opened(&mut self, data: &Path) -> io::Result<()> {
        if self.opened {
            return Ok(());
        }
        self.opened = true;
        self.write(data)
    }

    /// The file is there before or after, never in between.
    fn write(&self, data: &Path) -> io::Result<()> {
        let aside = data.join(format!("{FILE}.new"));
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        let mut file = File::create(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&aside, data.join(FILE))?;
        File::open(data)?.sync_all()
    }
}

impl Member {
    /// The first node of a new cluster.
    pub fn first() -> Member {
        Member {
            cluster: Uuid::new_v4(),
            node: FIRST_NODE,
        }
    }
}

/// Where the file of a data folder is.
pub fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// What the file says; `None` if there is none.
pub fn read(data: &Path) -> io::Result<Option<Stored>> {
    let text = match fs::read(path(data)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let stored: Stored = serde_json::from_slice(&text).map_err(io::Error::other)?;
    if stored.format != FORMAT {
        let what = format!("format {} is not this program's", stored.format);
        return Err(io::Error::other(what));
    }
    Ok(Some(stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_identity() {
        let folder = crate::temporary::Temporary::make("identity").unwrap();
        let data = folder.path().join("data");
        let mut made = Stored::of(&data, false).unwrap();
        assert_eq!(made.member, None);
        assert_eq!(Stored::of(&data, false).unwrap(), made);
        let member = Member::first();
        made.join(&data, member, true).unwrap();
        let mut again = Stored::of(&data, true).unwrap();
        assert_eq!((again.member, again.founding), (Some(member), true));
        again.founded(&data).unwrap();
        assert!(!Stored::of(&data, true).unwrap().founding);
    }

    #[test]
    fn a_folder_that_has_lost_its_journal_is_refused() {
        let folder = crate::temporary::Temporary::make("identity").unwrap();
        let mut made = Stored::of(folder.path(), false).unwrap();
        assert_eq!(
            Stored::of(folder.path(), false).unwrap(),
            made,
            "it has none"
        );
        made.opened(folder.path()).unwrap();
        assert_eq!(Stored::of(folder.path(), true).unwrap(), made);
        let refused = Stored::of(folder.path(), false).unwrap_err().to_string();
        assert!(refused.contains("journal"), "{refused}");
    }

    #[test]
    fn a_folder_from_before_clusters_is_a_cluster_of_one() {
        let folder = crate::temporary::Temporary::make("identity").unwrap();
        let made = Stored::of(folder.path(), true).unwrap();
        assert_eq!(made.member.map(|member| member.node), Some(FIRST_NODE));
        fs::write(path(folder.path()), "{\"format\": 2}").unwrap();
        assert!(Stored::of(folder.path(), true).is_err());
    }
}
