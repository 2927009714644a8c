//! `freehold check`: are the bytes of a stopped node what was written? Every checksum of the
//! journal and of the table files, then the tables against the journal. Writes nothing.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::Failure;
use crate::erase;
use crate::stopped::{Stopped, Tables};

/// What `freehold check` takes.
#[derive(Args, Clone, Debug)]
pub struct CheckFlags {
    /// Folder of the stopped node.
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR")]
    data: PathBuf,
    /// Say, too, whether something is left of rows that were removed: a problem once their time
    /// is over.
    #[arg(long)]
    erased: bool,
}

/// Whether all is well; what is not was printed. Errors: it could not be checked.
pub fn main(flags: &CheckFlags) -> Result<bool, Failure> {
    let stopped = Stopped::open(&flags.data)?;
    let mut findings = Findings::default();
    check_journal(&stopped, &mut findings)?;
    check_files(&stopped, &mut findings)?;
    if findings.0 == 0 {
        compare(&stopped, &mut findings, flags.erased)?;
    } else {
        println!("groups: not compared, for their files are damaged");
    }
    match findings.0 {
        0 => println!("{}: nothing is wrong", flags.data.display()),
        1 => println!("{}: 1 problem", flags.data.display()),
        found => println!("{}: {found} problems", flags.data.display()),
    }
    std::io::stdout().flush()?;
    Ok(findings.0 == 0)
}

/// How much was wrong so far.
#[derive(Default)]
struct Findings(u64);

impl Findings {
    fn add(&mut self, what: impl std::fmt::Display) {
        self.0 += 1;
        println!("DAMAGE: {what}");
    }
}

/// All records, dead ones too.
fn check_journal(stopped: &Stopped, findings: &mut Findings) -> Result<(), Failure> {
    let (mut records, mut segments) = (0_u64, std::collections::BTreeSet::new());
    for (segment, _, record) in stopped.records() {
        match record {
            Ok(_) => {
                records += 1;
                segments.insert(segment);
            }
            Err(torn @ journal::Error::Torn { .. }) => {
                println!("{torn}: it was never acknowledged, a start cuts it");
            }
            Err(newer @ journal::Error::NewerVersion { .. }) => return Err(newer.into()),
            Err(error) => findings.add(error),
        }
    }
    println!("journal: {records} records in {} segments", segments.len());
    Ok(())
}

/// All table files of lsm-tree; sled's one file is read through when its tables are compared.
fn check_files(stopped: &Stopped, findings: &mut Findings) -> Result<(), Failure> {
    let files = match storage::table_files(&stopped.tables_folder()) {
        Ok(files) => files,
        Err(error) => {
            findings.add(error);
            return Ok(());
        }
    };
    let mut bytes = 0;
    for file in &files {
        match file.verify() {
            Ok(length) => bytes += length,
            Err(storage::Error::Disk(error)) => {
                findings.add(format!("file \"{}\": {error}", file.path.display()));
            }
            Err(error) => findings.add(error),
        }
    }
    println!("tables: {bytes} bytes in {} files", files.len());
    Ok(())
}

/// The tables, replayed, against the sums that the checkpoint and the journal's entries give.
fn compare(stopped: &Stopped, findings: &mut Findings, erased: bool) -> Result<(), Failure> {
    let journal = match stopped.journal() {
        Ok(journal) => journal,
        Err(error) => {
            findings.add(error);
            return Ok(());
        }
    };
    let image = stopped.image()?;
    let tables = match Tables::open(image, stopped) {
        Ok(tables) => tables,
        Err(error) => {
            findings.add(error);
            return Ok(());
        }
    };
    if let Err(error) = tables.replay(&journal) {
        findings.add(format!("the journal does not continue the tables: {error}"));
        return Ok(());
    }
    compare_sums(&tables, findings);
    if let Err(error) = tables.load() {
        findings.add(format!("catalog: {error}"));
    }
    if erased {
        check_erased(&journal, &tables, findings);
    }
    Ok(())
}

/// By key, through all records of the journal; the tables have no older versions to look for than
/// those that the node would still have given.
fn check_erased(journal: &journal::Journal, tables: &Tables, findings: &mut Findings) {
    let engine = tables.engine.clone();
    let indexes = move |group, tree| erase::indexes(&engine, group, tree);
    match raft::not_erased(journal, &tables.groups, &indexes) {
        Ok((0, live)) if live.is_empty() => println!("erased: nothing is left of removed rows"),
        Ok((images, live)) => {
            if images > 0 {
                findings.add(format!("{images} images name rows that were removed"));
            }
            for group in live {
                findings.add(format!(
                    "group {group}: rows that were removed are in the log of Raft, which is not purged"
                ));
            }
        }
        Err(error) => findings.add(error),
    }
}

fn compare_sums(tables: &Tables, findings: &mut Findings) {
    for group in tables.groups.all() {
        if !group.ready() {
            // Its files are ahead of what the checkpoint says; the next start asks for the rest.
            println!(
                "group {}: a copy that is not whole before its source continues it",
                group.id()
            );
            continue;
        }
        match group.verify_sums() {
            Ok(sums) => println!(
                "group {}: {} tables with {} rows as the journal says, {} other keys read, up to {}",
                group.id(),
                sums.tables,
                sums.rows,
                sums.others,
                group.applied()
            ),
            Err(error) => findings.add(error),
        }
    }
}
