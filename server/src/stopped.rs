//! A stopped node's folder, read without changing a byte of it: the journal through a disk that
//! keeps writes in memory, the tables through links and copies in a temporary folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use journal::disk::Lock;
use journal::{Disk as _, GroupId, Journal, Position, ShadowDisk};
use sql::engine::{Engine, Limits, Parts};
use storage::{Groups, Proposal, Propose, StoreKind, StoreOptions};

use crate::Failure;
use crate::start::{journal_folder, load, tables_folder};
use crate::system::{SystemClock, SystemRandom};
use crate::temporary::Temporary;

/// A folder that no node uses, and none can while this value lives.
pub struct Stopped {
    data: PathBuf,
    disk: ShadowDisk,
    _lock: Lock,
}

impl Stopped {
    /// Errors: it is no node's folder, or a node uses it.
    pub fn open(data: &Path) -> Result<Stopped, Failure> {
        let journal = journal_folder(data);
        if !journal.is_dir() {
            return Err(format!(
                "{} holds no node: there is no folder {}",
                data.display(),
                journal.display()
            )
            .into());
        }
        let disk = ShadowDisk::new();
        let lock = disk
            .lock(&journal.join("lock"))
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::WouldBlock => {
                    format!(
                        "{} is in use by a running node: stop it first",
                        data.display()
                    )
                }
                _ => format!("can't lock {}: {error}", journal.display()),
            })?;
        Ok(Stopped {
            data: data.into(),
            disk,
            _lock: lock,
        })
    }

    /// The folder of the tables.
    pub fn tables_folder(&self) -> PathBuf {
        tables_folder(&self.data)
    }

    /// Every record of the journal, damage included.
    pub fn records(&self) -> journal::Inspect {
        journal::inspect(Arc::new(self.disk.clone()), &journal_folder(&self.data))
    }

    /// The journal as a start finds it: a torn end is cut, in memory only.
    pub fn journal(&self) -> Result<Journal, journal::Error> {
        let options = journal::Options {
            spare: journal::Spare::OnDemand,
            ..journal::Options::default()
        };
        Journal::open(
            Arc::new(self.disk.clone()),
            &journal_folder(&self.data),
            options,
        )
    }

    /// A stand-in for the folder of the tables, to be opened in its place.
    pub fn image(&self) -> Result<Temporary, Failure> {
        let temporary = Temporary::make("tables")?;
        storage::shadow(&self.tables_folder(), temporary.path())?;
        Ok(temporary)
    }
}

/// The tables of a stopped node.
pub struct Tables {
    /// The catalog, after [`Tables::load`].
    pub engine: Arc<Engine>,
    /// The groups that were replayed.
    pub groups: Arc<Groups>,
    // Removed when the store is closed.
    _image: Temporary,
}

impl Tables {
    /// The tables of an image, as of the last checkpoint.
    pub fn open(image: Temporary, stopped: &Stopped) -> Result<Tables, Failure> {
        let kind = storage::kind_of(&stopped.tables_folder())?.unwrap_or(StoreKind::Lsm);
        let store = storage::open(kind, image.path(), StoreOptions::default())?;
        let groups = Groups::new(store, Arc::new(SystemClock));
        let engine = Engine::new(Parts {
            groups: groups.clone(),
            propose: Arc::new(Nowhere),
            cluster: sql::cluster::Alone::new(groups.clone()),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            relations: Vec::new(),
            functions: Vec::new(),
            settings: Vec::new(),
            limits: Limits::default(),
        })?;
        groups.attach(Arc::new(Nowhere));
        groups.observe(engine.observer());
        Ok(Tables {
            engine,
            groups,
            _image: image,
        })
    }

    /// Brings every group to the end of the journal, as a start would; the catalogs too.
    pub fn replay(&self, journal: &Journal) -> Result<(), raft::Error> {
        let mut ids: BTreeSet<GroupId> = journal.groups().into_iter().collect();
        let checkpoints = self.groups.store().checkpoint();
        ids.extend(checkpoints.iter().map(|checkpoint| checkpoint.group));
        let followed = self.groups.followed()?;
        for id in ids {
            if followed.contains(&id) {
                // No journal continues it: its source does.
                self.groups.follow(id, Box::new(|| ()))?;
                continue;
            }
            raft::replay(journal, &*self.groups.open(id)?)?;
        }
        Ok(())
    }

    /// Reads the catalogs of what was replayed.
    pub fn load(&self) -> Result<(), Failure> {
        load(&self.engine, &self.groups)
    }
}

/// Nobody proposes anything to a stopped node.
struct Nowhere;

impl Propose for Nowhere {
    fn propose(&self, _group: GroupId, _proposal: Proposal) {}

    fn create(
        &self,
        _group: GroupId,
        _above: Position,
        done: Box<dyn FnOnce(storage::Result<()>) + Send>,
    ) {
        done(Err(storage::Error::Store("the node is stopped".into())));
    }
}
