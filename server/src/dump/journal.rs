//! `freehold dump journal`: a line per record, with --changes also one per change and event.

use clap::Args;
use journal::{GroupId, Kind, Position, Record};
use storage::{Change, Entry, EventKind, Part};

use super::line::{Line, Out};
use super::tables::Names;
use super::{Common, hex};
use crate::Failure;

/// Which records.
#[derive(Args, Clone, Debug)]
pub struct JournalFlags {
    #[command(flatten)]
    common: Common,
    /// Of this group only.
    #[arg(long, value_name = "N")]
    group: Option<u32>,
    /// Of this kind only: entry, part, raft, vote, truncate, purge, erase, mark, footer.
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Option<Kind>,
    /// Above this position only.
    #[arg(long, value_name = "POSITION", value_parser = parse_position)]
    after: Option<Position>,
    /// Up to this position only.
    #[arg(long, value_name = "POSITION", value_parser = parse_position)]
    until: Option<Position>,
    /// A line for each change and event of an entry, too.
    #[arg(long)]
    changes: bool,
}

const KINDS: [(&str, Kind); 9] = [
    ("entry", Kind::Entry),
    ("part", Kind::Part),
    ("raft", Kind::Raft),
    ("vote", Kind::Vote),
    ("truncate", Kind::Truncate),
    ("purge", Kind::Purge),
    ("erase", Kind::Erase),
    ("mark", Kind::Mark),
    ("footer", Kind::Footer),
];

fn parse_kind(text: &str) -> Result<Kind, String> {
    let found = KINDS.iter().find(|(name, _)| *name == text);
    let names = || KINDS.map(|(name, _)| name).join(", ");
    found
        .map(|(_, kind)| *kind)
        .ok_or_else(|| format!("must be one of {}", names()))
}

fn parse_position(text: &str) -> Result<Position, String> {
    Position::parse(text).ok_or_else(|| "must look like 16/B374D848".into())
}

fn name(kind: Kind) -> &'static str {
    let found = KINDS.iter().find(|(_, known)| *known == kind);
    found.expect("KINDS has them all").0
}

impl JournalFlags {
    fn wants(&self, record: &Record) -> bool {
        self.group.is_none_or(|group| record.group.0 == group)
            && self.kind.is_none_or(|kind| record.kind == kind)
            && self.after.is_none_or(|after| record.position > after)
            && self.until.is_none_or(|until| record.position <= until)
    }
}

/// Prints the records.
pub fn dump(flags: &JournalFlags) -> Result<bool, Failure> {
    let (stopped, mut out) = flags.common.open()?;
    let names = match flags.changes {
        true => Names::of(&stopped),
        false => Names::default(),
    };
    for (segment, offset, record) in stopped.records() {
        let place = Line::default()
            .with("segment", segment)
            .with("offset", offset);
        let read_on = match record {
            Ok(record) if !flags.wants(&record) => true,
            Ok(record) => print(flags, &names, &mut out, place, &record)?,
            Err(torn @ journal::Error::Torn { .. }) => out.line(&place.shown("torn", torn))?,
            Err(error) => out.damage(place, error)?,
        };
        if !read_on {
            break;
        }
    }
    out.end()
}

fn print(
    flags: &JournalFlags,
    names: &Names,
    out: &mut Out,
    place: Line,
    record: &Record,
) -> Result<bool, Failure> {
    let line = place
        .with("group", record.group.0)
        .with("kind", name(record.kind))
        .with("term", record.term.0)
        .with("index", record.index.0)
        .shown("position", record.position);
    match record.kind {
        Kind::Entry => match Entry::decode(&record.payload) {
            Ok(entry) => {
                let read_on = out.line(&entry_line(line, &entry))?;
                let printed = read_on && flags.changes;
                if !printed {
                    return Ok(read_on);
                }
                print_events(names, out, record.group, &entry)?;
                print_changes(names, out, record.group, &entry.changes)
            }
            Err(error) => out.damage(line, error),
        },
        Kind::Part => match Part::decode(&record.payload) {
            Ok(part) => {
                let line = line
                    .with("tx", part.header.txid.0)
                    .with("part", part.header.number)
                    .with("changes", part.changes.len());
                let read_on = out.line(&line)?;
                match read_on && flags.changes {
                    true => print_changes(names, out, record.group, &part.changes),
                    false => Ok(read_on),
                }
            }
            Err(error) => out.damage(line, error),
        },
        Kind::Raft
        | Kind::Vote
        | Kind::Truncate
        | Kind::Purge
        | Kind::Erase
        | Kind::Mark
        | Kind::Footer => out.line(&line.maybe("what", raft::describe(record))),
    }
}

fn entry_line(line: Line, entry: &Entry) -> Line {
    let header = &entry.header;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let meta = &header.meta;
    let by = (meta.login != meta.role).then(|| meta.login.clone());
    line.with("tx", header.txid.0)
        .shown("prev", header.prev)
        .maybe("role", some(&meta.role))
        .maybe("login", by.as_deref().and_then(some))
        .maybe("application", some(&meta.application_name))
        .maybe("trace", some(&meta.trace))
        .with("changes", entry.changes.len())
        .with("events", entry.events.len())
        .maybe("parts", header.parts.map(|parts| parts.parts))
        .maybe(
            "dropped_trees",
            Some(entry.dropped_trees.clone()).filter(|d| !d.is_empty()),
        )
        .maybe(
            "erased",
            (!entry.erased.is_empty()).then_some(entry.erased.len()),
        )
        .maybe("close", entry.close.then_some(true))
}

fn print_events(
    names: &Names,
    out: &mut Out,
    group: GroupId,
    entry: &Entry,
) -> Result<bool, Failure> {
    for event in &entry.events {
        let kind = match event.kind {
            EventKind::Message | EventKind::Row => "event",
            EventKind::Ddl => "ddl",
        };
        let table = event.table.map(|tree| names.name(group, tree));
        let row = (event.kind == EventKind::Row)
            .then_some(event.table)
            .flatten();
        let payload = match row {
            Some(tree) => names.row(group, tree, &event.payload),
            None => String::from_utf8_lossy(&event.payload).into(),
        };
        let about = event.about.iter();
        let about: Vec<String> = about
            .map(|row| format!("{} {}", names.name(group, row.tree), hex(&row.key)))
            .collect();
        let line = Line::default()
            .with("seq", event.seq)
            .with("op", kind)
            .maybe("table", table)
            .maybe(
                "name",
                Some(event.name.clone()).filter(|name| !name.is_empty()),
            )
            .maybe("about", Some(about).filter(|about| !about.is_empty()))
            .with("payload", payload);
        if !out.line(&line)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn print_changes(
    names: &Names,
    out: &mut Out,
    group: GroupId,
    changes: &[Change],
) -> Result<bool, Failure> {
    for change in changes {
        let op = match (&change.old, &change.new) {
            (None, Some(_)) => "insert",
            (Some(_), Some(_)) => "update",
            (_, None) if change.erase => "erase",
            (Some(_), None) => "delete",
            (None, None) => "nothing",
        };
        let row = |bytes: &Option<bytes::Bytes>| {
            let bytes = bytes.as_ref()?;
            Some(names.row(group, change.tree, bytes))
        };
        let line = Line::default()
            .with("seq", change.seq)
            .with("op", op)
            .with("table", names.name(group, change.tree))
            .with("key", hex(&change.key))
            .maybe("old", row(&change.old))
            .maybe("new", row(&change.new))
            .with("indexes", change.index.len());
        if !out.line(&line)? {
            return Ok(false);
        }
    }
    Ok(true)
}
