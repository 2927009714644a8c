//! A power cut without root: the server runs under strace, and after SIGKILL the data folder is
//! made what a disk might show, every unsynced write being kept, dropped or torn.
//!
//! The trace has no data, so what a dropped write had overwritten is known only where it was
//! zeros or beyond the end; elsewhere the write is kept. Names follow ext4: any completed sync
//! makes all earlier creations and renames durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::StdRng;

use super::trace::{CALLS, CallId, Event, SHOWN_BYTES, parse};
use crate::error::{Error, Result};
use crate::victim::Tracer;

/// A disk writes whole sectors: writes are torn at their borders.
const SECTOR: u64 = 512;

/// Granularity at which zeros of files from before the trace are looked for.
const BLOCK: usize = 4096;

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Writes that were not synced.
    pub unsynced: usize,
    /// Bytes of them that are gone.
    pub dropped_bytes: u64,
    /// Creations and renames undone.
    pub undone: usize,
}

impl Cut {
    /// Whether anything was taken.
    pub fn bit(&self) -> bool {
        self.dropped_bytes > 0 || self.undone > 0
    }
}

/// The machinery of one data folder.
pub struct Replay {
    trace: PathBuf,
    data: PathBuf,
    before: BTreeMap<String, Content>,
}

impl Replay {
    /// For the server on `data`, the trace being written into `folder`. [`Error::Setup`] where
    /// strace isn't there or may not trace.
    pub fn make(folder: &Path, data: &Path) -> Result<Replay> {
        let works = std::process::Command::new("strace")
            .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"])
            .output()
            .is_ok_and(|output| output.status.success());
        if !works {
            return Err(Error::Setup(
                "strace is missing or not allowed to trace".into(),
            ));
        }
        let (trace, data) = (folder.join("trace"), data.to_owned());
        // The server, and the tracer with it, may run under another account.
        File::create(&trace)?.set_permissions(Permissions::from_mode(0o666))?;
        Ok(Replay {
            trace,
            data,
            before: BTreeMap::new(),
        })
    }

    /// Takes note of the folder as it is, durable, and gives the tracer for the next start.
    pub fn arm(&mut self) -> Result<Tracer> {
        self.before = BTreeMap::new();
        for path in files(&self.data)? {
            self.before.insert(name_of(&path), Content::read(&path)?);
        }
        let shown = SHOWN_BYTES.to_string();
        let calls = format!("trace={CALLS}");
        let trace = self.trace.to_string_lossy().into_owned();
        let command = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-y",
            "-s",
            &shown,
            "-e",
            &calls,
            "-o",
            &trace,
            "--",
        ];
        Ok(Tracer {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        })
    }

    /// Makes the dead server's folder what a disk might show.
    pub fn cut(&mut self, rng: &mut StdRng) -> Result<Cut> {
        let text = String::from_utf8_lossy(&std::fs::read(&self.trace)?).into_owned();
        let mut disk = Model::new(name_of(&self.data), std::mem::take(&mut self.before));
        disk.synchronous = synchronous(&self.data)?;
        for event in parse(&text) {
            disk.play(event);
        }
        disk.apply(rng)
    }
}

fn name_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Folders and files whose inode says that every write is on disk when its call returns.
fn synchronous(folder: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        // A file system without such flags has none set.
        let flags = File::open(&next).map(|file| rustix::fs::ioctl_getflags(&file));
        if matches!(flags, Ok(Ok(flags)) if flags.contains(rustix::fs::IFlags::SYNC)) {
            found.insert(name_of(&next));
        }
        if next.is_dir() {
            for entry in std::fs::read_dir(&next)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(found)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else if entry.file_type()?.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Ranges of bytes: begin to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    fn add(&mut self, begin: u64, end: u64) {
        self.remove(begin, end);
        if begin < end {
            self.0.push((begin, end));
        }
    }

    fn remove(&mut self, begin: u64, end: u64) {
        let pieces = std::mem::take(&mut self.0);
        for (from, to) in pieces {
            if from < begin {
                self.0.push((from, to.min(begin)));
            }
            if to > end {
                self.0.push((from.max(end), to));
            }
        }
    }

    /// The parts of `begin..end` that are in these ranges.
    fn within(&self, begin: u64, end: u64) -> Vec<(u64, u64)> {
        let cut = self
            .0
            .iter()
            .map(|(from, to)| (*from.max(&begin), *to.min(&end)));
        cut.filter(|(from, to)| from < to).collect()
    }
}

/// What is known of a file's durable bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    /// Length in bytes.
    length: u64,
    /// Where they are zeros for certain.
    zeros: Ranges,
}

impl Content {
    fn read(path: &Path) -> Result<Content> {
        let mut file = File::open(path)?;
        let mut content = Content::default();
        let mut block = vec![0; BLOCK];
        loop {
            let got = file.read(&mut block)?;
            if got == 0 {
                return Ok(content);
            }
            let end = content.length + got as u64;
            if block[..got].iter().all(|byte| *byte == 0) {
                content.zeros.0.push((content.length, end));
            }
            content.length = end;
        }
    }
}

/// A write that is not durable yet.
#[derive(Clone, Debug)]
struct Unsynced {
    call: CallId,
    begin: u64,
    end: u64,
    zeros: bool,
    done: bool,
}

/// A file: its durable content and what came after it.
#[derive(Clone, Debug, Default)]
struct Traced {
    durable: Content,
    /// Length as the server sees it.
    length: u64,
    unsynced: Vec<Unsynced>,
}

/// Something done to names that is not durable yet.
enum Naming {
    Created(String),
    Renamed {
        from: String,
        to: String,
        over: bool,
    },
    Removed,
}

/// What stands behind a descriptor: twins share it.
struct Description {
    path: String,
    offset: u64,
    appends: bool,
}

/// The folder as the trace tells it.
struct Model {
    root: String,
    files: BTreeMap<String, Traced>,
    descriptions: Vec<Description>,
    descriptors: HashMap<i32, usize>,
    /// Which file a write or sync in flight is about, and what it makes durable.
    calls: HashMap<CallId, (String, Vec<CallId>, bool)>,
    naming: Vec<Naming>,
    /// What needs no sync: see [`synchronous`].
    synchronous: BTreeSet<String>,
}

impl Model {
    fn new(root: String, before: BTreeMap<String, Content>) -> Model {
        let traced = |content: Content| Traced {
            length: content.length,
            durable: content,
            unsynced: Vec::new(),
        };
        Model {
            root,
            files: before
                .into_iter()
                .map(|(path, content)| (path, traced(content)))
                .collect(),
            descriptions: Vec::new(),
            descriptors: HashMap::new(),
            calls: HashMap::new(),
            naming: Vec::new(),
            synchronous: BTreeSet::new(),
        }
    }

    /// Notes what was done to a name, unless its folder is synchronous.
    fn name(&mut self, path: &str, naming: Naming) {
        let folder = Path::new(path).parent().map(name_of);
        if !folder.is_some_and(|folder| self.synchronous.contains(&folder)) {
            self.naming.push(naming);
        }
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Open {
                fd,
                path,
                creates,
                truncates,
                appends,
            } => {
                self.open(fd, path, creates, truncates, appends);
            }
            Event::Duplicate { from, to } => {
                if let Some(which) = self.descriptors.get(&from).copied() {
                    self.descriptors.insert(to, which);
                }
            }
            Event::Seek { fd, offset } => {
                if let Some(which) = self.descriptors.get(&fd) {
                    self.descriptions[*which].offset = offset;
                }
            }
            Event::Write {
                call,
                fd,
                path,
                offset,
                length,
                zeros,
            } => {
                self.write(call, fd, path, offset, length, zeros);
            }
            Event::Sync { call, path } => self.sync(call, path),
            Event::Resize {
                path,
                length,
                only_longer,
            } => self.resize(&path, length, only_longer),
            Event::Rename { from, to } => self.rename(from, to),
            Event::Remove { path } => {
                if self.files.remove(&path).is_some() {
                    self.naming.push(Naming::Removed);
                }
            }
            Event::Ended { call, result } => self.ended(call, result),
        }
    }

    fn open(&mut self, fd: i32, path: String, creates: bool, truncates: bool, appends: bool) {
        if !path.starts_with(&self.root) {
            self.descriptors.remove(&fd);
            return;
        }
        if creates && !self.files.contains_key(&path) {
            self.files.insert(path.clone(), Traced::default());
            self.name(&path, Naming::Created(path.clone()));
        }
        if truncates && let Some(file) = self.files.get_mut(&path) {
            *file = Traced::default();
        }
        self.descriptors.insert(fd, self.descriptions.len());
        self.descriptions.push(Description {
            path,
            offset: 0,
            appends,
        });
    }

    fn write(
        &mut self,
        call: CallId,
        fd: i32,
        path: String,
        offset: Option<u64>,
        length: u64,
        zeros: bool,
    ) {
        let Some(file) = self.files.get_mut(&path) else {
            return;
        };
        let begin = match (offset, self.descriptors.get(&fd)) {
            (Some(offset), _) => offset,
            (None, Some(which)) => {
                let description = &mut self.descriptions[*which];
                let at = if description.appends {
                    file.length
                } else {
                    description.offset
                };
                description.offset = at + length;
                at
            }
            (None, None) => file.length,
        };
        let end = begin + length;
        file.length = file.length.max(end);
        file.unsynced.push(Unsynced {
            call,
            begin,
            end,
            zeros,
            done: false,
        });
        self.calls.insert(call, (path, Vec::new(), false));
    }

    fn sync(&mut self, call: CallId, path: String) {
        let covered = self.files.get(&path).map(|file| {
            file.unsynced
                .iter()
                .filter(|one| one.done)
                .map(|one| one.call)
                .collect()
        });
        if path.starts_with(&self.root) {
            self.calls
                .insert(call, (path, covered.unwrap_or_default(), true));
        }
    }

    fn ended(&mut self, call: CallId, result: i64) {
        let Some((path, covered, is_sync)) = self.calls.remove(&call) else {
            return;
        };
        if is_sync {
            if result == 0 {
                self.make_durable(&path, &covered);
            }
            return;
        }
        let Some(file) = self.files.get_mut(&path) else {
            return;
        };
        if let Some(one) = file.unsynced.iter_mut().rev().find(|one| one.call == call) {
            one.done = true;
            one.end = one.begin + u64::try_from(result).unwrap_or(0);
            file.length = file.length.max(one.end);
        }
        if self.synchronous.contains(&path) {
            self.make_durable(&path, &[call]);
        }
    }

    fn make_durable(&mut self, path: &str, covered: &[CallId]) {
        self.naming.clear();
        let Some(file) = self.files.get_mut(path) else {
            return;
        };
        let covered: BTreeSet<CallId> = covered.iter().copied().collect();
        let (now, later): (Vec<_>, Vec<_>) = file
            .unsynced
            .drain(..)
            .partition(|one| covered.contains(&one.call));
        file.unsynced = later;
        for one in now {
            // A gap between the old end and this write reads as zeros.
            let old = file.durable.length;
            if one.begin > old {
                file.durable.zeros.add(old, one.begin);
            }
            file.durable.length = old.max(one.end);
            if one.zeros {
                file.durable.zeros.add(one.begin, one.end);
            } else {
                file.durable.zeros.remove(one.begin, one.end);
            }
        }
        if file.length > file.durable.length && file.unsynced.is_empty() {
            file.durable.zeros.add(file.durable.length, file.length);
            file.durable.length = file.length;
        }
    }

    /// A new length is taken to be durable if shorter; if longer, with the next sync.
    fn resize(&mut self, path: &str, length: u64, only_longer: bool) {
        let Some(file) = self.files.get_mut(path) else {
            return;
        };
        if length >= file.length {
            file.length = length;
        } else if !only_longer {
            file.length = length;
            file.durable.length = file.durable.length.min(length);
            file.durable.zeros.remove(length, u64::MAX);
            file.unsynced.retain(|one| one.begin < length);
            file.unsynced
                .iter_mut()
                .for_each(|one| one.end = one.end.min(length));
        }
    }

    fn rename(&mut self, from: String, to: String) {
        let Some(file) = self.files.remove(&from) else {
            return;
        };
        for description in self.descriptions.iter_mut().filter(|one| one.path == from) {
            description.path = to.clone();
        }
        for (path, _, _) in self.calls.values_mut().filter(|(path, _, _)| *path == from) {
            *path = to.clone();
        }
        let over = self.files.insert(to.clone(), file).is_some();
        self.name(&to.clone(), Naming::Renamed { from, to, over });
    }

    /// Takes away what the seed says, from the files themselves.
    fn apply(mut self, rng: &mut StdRng) -> Result<Cut> {
        let mut cut = Cut::default();
        // One temper for each cut: all is gone, a coin for each write, or all but the last ones.
        let keep = [0.0, 0.5, 0.9][rng.random_range(0..3)];
        self.undo_names(keep, rng, &mut cut)?;
        for (path, file) in &self.files {
            if !file.unsynced.is_empty() && Path::new(path).exists() {
                cut_file(path, file, keep, rng, &mut cut)?;
            }
        }
        Ok(cut)
    }

    /// Undoes the newest names, down to a random one or the first that can't be undone.
    fn undo_names(&mut self, keep: f64, rng: &mut StdRng, cut: &mut Cut) -> Result<()> {
        while let Some(naming) = self.naming.pop() {
            if rng.random_bool(keep) {
                return Ok(());
            }
            match naming {
                Naming::Created(path) => {
                    self.files.remove(&path);
                    if Path::new(&path).exists() {
                        std::fs::remove_file(&path)?;
                    }
                }
                Naming::Renamed {
                    from,
                    to,
                    over: false,
                } => {
                    std::fs::rename(&to, &from)?;
                    if let Some(file) = self.files.remove(&to) {
                        self.files.insert(from, file);
                    }
                }
                Naming::Renamed { .. } | Naming::Removed => return Ok(()),
            }
            cut.undone += 1;
        }
        Ok(())
    }
}

/// Drops or tears the unsynced writes of one file.
fn cut_file(path: &str, file: &Traced, keep: f64, rng: &mut StdRng, cut: &mut Cut) -> Result<()> {
    let handle = OpenOptions::new().write(true).open(path)?;
    let length = handle.metadata()?.len();
    let (mut kept, mut dropped) = (Ranges::default(), Ranges::default());
    for one in &file.unsynced {
        cut.unsynced += 1;
        let border = match rng.random_range(0..4) {
            _ if rng.random_bool(keep) => one.end,
            0 => torn_at(one, rng),
            _ => one.begin,
        };
        kept.add(one.begin, border);
        dropped.remove(one.begin, border);
        dropped.add(border, one.end);
    }
    for (begin, end) in &kept.0 {
        dropped.remove(*begin, *end);
    }
    let kept_end = kept.0.iter().map(|(_, end)| *end).max().unwrap_or(0);
    let new_length = file.durable.length.max(kept_end).min(length);
    for (begin, end) in &dropped.0 {
        let beyond = file.durable.length.max(*begin);
        let mut blank = file.durable.zeros.within(*begin, *end);
        blank.push((beyond, (*end).min(new_length)));
        for (from, to) in blank.into_iter().filter(|(from, to)| from < to) {
            handle.write_all_at(&vec![0; (to - from) as usize], from)?;
            cut.dropped_bytes += to - from;
        }
    }
    cut.dropped_bytes += length.saturating_sub(new_length);
    handle.set_len(new_length)?;
    Ok(())
}

/// A border of sectors within the write.
fn torn_at(one: &Unsynced, rng: &mut StdRng) -> u64 {
    let first = one.begin / SECTOR + 1;
    let last = one.end / SECTOR;
    if first > last {
        one.begin
    } else {
        rng.random_range(first..=last) * SECTOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;

    fn write(call: CallId, path: &str, begin: u64, length: u64) -> Vec<Event> {
        let event = Event::Write {
            call,
            fd: 5,
            path: path.into(),
            offset: Some(begin),
            length,
            zeros: false,
        };
        vec![
            event,
            Event::Ended {
                call,
                result: length as i64,
            },
        ]
    }

    fn sync(call: CallId, path: &str) -> Vec<Event> {
        vec![
            Event::Sync {
                call,
                path: path.into(),
            },
            Event::Ended { call, result: 0 },
        ]
    }

    fn open(path: &str) -> Event {
        Event::Open {
            fd: 5,
            path: path.into(),
            creates: true,
            truncates: false,
            appends: false,
        }
    }

    fn played(folder: &Path, events: Vec<Vec<Event>>) -> Model {
        let mut model = Model::new(name_of(folder), BTreeMap::new());
        events
            .into_iter()
            .flatten()
            .for_each(|event| model.play(event));
        model
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_can_go() {
        let mut shortest = u64::MAX;
        for seed in 0..30 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log");
            std::fs::write(&path, vec![7; 3000]).unwrap();
            let name = name_of(&path);
            let events = vec![
                vec![open(&name)],
                write(1, &name, 0, 1000),
                sync(2, &name),
                write(3, &name, 1000, 2000),
            ];
            let cut = played(folder.path(), events)
                .apply(&mut Seed(seed).rng())
                .unwrap();
            let left = std::fs::read(&path).unwrap();
            assert!(
                left.len() >= 1000 && left.iter().all(|byte| *byte == 7),
                "seed {seed}"
            );
            assert_eq!(cut.dropped_bytes, 3000 - left.len() as u64);
            shortest = shortest.min(left.len() as u64);
        }
        assert_eq!(shortest, 1000);
    }

    #[test]
    fn a_file_that_nothing_made_durable_can_vanish() {
        let mut vanished = false;
        for seed in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("new");
            std::fs::write(&path, b"abc").unwrap();
            let name = name_of(&path);
            let events = vec![vec![open(&name)], write(1, &name, 0, 3)];
            played(folder.path(), events)
                .apply(&mut Seed(seed).rng())
                .unwrap();
            vanished |= !path.exists();
        }
        assert!(vanished);
    }

    #[test]
    fn a_dropped_write_into_zeros_leaves_zeros() {
        let mut zeroed = false;
        for seed in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("spare");
            std::fs::write(&path, vec![7; 4096]).unwrap();
            let name = name_of(&path);
            let before = Content {
                length: 4096,
                zeros: Ranges(vec![(0, 4096)]),
            };
            let mut model = Model::new(
                name_of(folder.path()),
                BTreeMap::from([(name.clone(), before)]),
            );
            write(1, &name, 0, 4096)
                .into_iter()
                .for_each(|event| model.play(event));
            model.apply(&mut Seed(seed).rng()).unwrap();
            let left = std::fs::read(&path).unwrap();
            assert_eq!(left.len(), 4096);
            zeroed |= left.iter().all(|byte| *byte == 0);
        }
        assert!(zeroed);
    }

    #[test]
    fn what_is_written_synchronously_needs_no_sync() {
        let folder = tempfile::tempdir().unwrap();
        let name = name_of(&folder.path().join("db"));
        let mut model = Model::new(name_of(folder.path()), BTreeMap::new());
        model.synchronous = BTreeSet::from([name_of(folder.path()), name.clone()]);
        let mut late = write(2, &name, 100, 50);
        late.pop();
        let events = [vec![open(&name)], write(1, &name, 0, 100), late];
        events
            .into_iter()
            .flatten()
            .for_each(|event| model.play(event));
        assert!(model.naming.is_empty());
        assert_eq!(model.files[&name].durable.length, 100);
        assert_eq!(model.files[&name].unsynced.len(), 1, "the one in flight");
    }

    #[test]
    fn a_write_in_flight_during_a_sync_is_not_covered() {
        let folder = tempfile::tempdir().unwrap();
        let name = name_of(&folder.path().join("log"));
        let mut events = vec![vec![open(&name)]];
        let mut late = write(2, &name, 0, 100);
        let ended = late.pop().expect("two events");
        events.push(late);
        events.push(sync(3, &name));
        events.push(vec![ended]);
        let model = played(folder.path(), events);
        assert_eq!(model.files[&name].unsynced.len(), 1);
        assert_eq!(model.files[&name].durable.length, 0);
    }
}
