//! `freehold check` and `freehold dump` on the folders of stopped, killed and damaged nodes; both
//! leave every byte as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::process::Signal;
use serde_json::Value;
use tests::{Program, Security, command, run};

/// A node with two owners, rows behind a checkpoint (a restart writes one) and rows behind that.
fn node(store: &str) -> Program {
    let mut program = Program::start_with(Security::Trust, &["--table-store", store]);
    program.place().add_owner("orders");
    program.place().add_owner("billing");
    let mut orders = program.place().session("orders");
    orders.ok("CREATE TABLE public.order_v1 (id int PRIMARY KEY, note text NOT NULL)");
    orders.ok("CREATE INDEX order_by_note ON public.order_v1 (note)");
    orders.ok("INSERT INTO public.order_v1 SELECT n, 'note ' || n FROM generate_series(1, 2000) n");
    program
        .place()
        .session("billing")
        .ok("CREATE TABLE invoice (id int)");
    program.restart();
    let mut orders = program.place().session("orders");
    orders.ok("DELETE FROM public.order_v1 WHERE id <= 100");
    orders.ok("UPDATE public.order_v1 SET note = 'changed' WHERE id > 1990");
    orders.ok("BEGIN; INSERT INTO public.order_v1 VALUES (9999, 'never'); ROLLBACK");
    orders.ok("SELECT pg_logical_emit_message(true, 'order.placed', '{\"order\": 7}')");
    program
}

pub(crate) fn freehold(arguments: &[&str], data: &Path) -> Output {
    let mut command = command();
    run(command.args(arguments).arg("--data").arg(data), "")
}

pub(crate) fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Every file of a folder with its bytes; the socket of `freehold drain` has none.
fn bytes_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Flips a bit and says where.
fn damage(file: &Path, offset: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[offset] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_killed_node_is_right_and_stays_as_it_is() {
    for store in ["lsm", "sled"] {
        let mut program = node(store);
        program.kill();
        let before = bytes_of(&program.data());
        let output = freehold(&["check"], &program.data());
        let text = said(&output);
        assert_eq!(output.status.code(), Some(0), "{store}: {text}");
        assert!(text.contains("1 tables with 1900 rows"), "{store}: {text}");
        assert!(text.ends_with("nothing is wrong\n"), "{store}: {text}");
        assert!(
            bytes_of(&program.data()) == before,
            "{store}: check wrote something"
        );
        program.start_again();
        let mut orders = program.place().session("orders");
        assert_eq!(
            orders.value("SELECT count(*) FROM public.order_v1"),
            "1900",
            "{store}"
        );
    }
}

#[test]
fn a_running_node_is_left_alone() {
    let program = node("lsm");
    for arguments in [&["check"][..], &["dump", "tables"], &["dump", "journal"]] {
        let output = freehold(arguments, &program.data());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = said(&output);
        assert!(text.contains("in use by a running node"), "{text}");
    }
    let nowhere = program.folder().join("nowhere");
    let output = freehold(&["check"], &nowhere);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("holds no node"), "{}", said(&output));
    assert!(!nowhere.exists(), "check made a folder");
}

#[test]
fn a_damaged_byte_of_the_journal_is_found_with_file_and_offset() {
    let mut program = node("lsm");
    program.signal(Signal::TERM);
    program.wait();
    let segment = program.data().join("journal/0000000000000001.segment");
    // The second record begins behind the first, at the end of its padded payload.
    let bytes = fs::read(&segment).unwrap();
    let length = u32::from_le_bytes(bytes[36..40].try_into().unwrap()) as usize;
    let second = (32 + 48 + length).next_multiple_of(8);
    damage(&segment, second + 48 + 9);
    let output = freehold(&["check"], &program.data());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let place = format!("file \"{}\" at offset {second}:", segment.display());
    assert!(text.contains(&place), "{place} is not in {text}");
    assert!(text.ends_with("1 problem\n"), "{text}");

    let output = freehold(&["dump", "journal"], &program.data());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("damage="), "{}", said(&output));
}

#[test]
fn a_damaged_byte_of_a_table_file_is_found_with_file_and_offset() {
    let mut program = node("lsm");
    program.signal(Signal::TERM);
    program.wait();
    let tables: Vec<PathBuf> = bytes_of(&program.data())
        .into_keys()
        .filter(|path| path.parent().is_some_and(|p| p.ends_with("tables")) && is_number(path))
        .collect();
    assert!(tables.len() > 5, "{tables:?}");
    let largest = tables
        .iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let sound = fs::read(largest).unwrap();
    // In the first block, in the last byte of the file, in the middle: whatever lies there.
    for (offset, block) in [
        (40, Some(0)),
        (sound.len() - 1, None),
        (sound.len() / 2, None),
    ] {
        damage(largest, offset);
        let output = freehold(&["check"], &program.data());
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{offset}: {text}");
        let place = format!("file \"{}\" at offset ", largest.display());
        assert!(text.contains(&place), "{place} is not in {text}");
        if let Some(block) = block {
            assert!(text.contains(&format!("{place}{block}:")), "{text}");
        }
        fs::write(largest, &sound).unwrap();
    }
    fs::remove_file(largest).unwrap();
    let output = freehold(&["check"], &program.data());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&largest.display().to_string()));
}

fn is_number(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Bytes that are as they were written, of a table that is not as the journal says: an older
/// state of a tree, with all its checksums right.
#[test]
fn a_table_that_is_not_what_the_journal_says_is_found() {
    let mut program = node("lsm");
    program.signal(Signal::TERM);
    program.wait();
    let line = said(&freehold(
        &["dump", "tables", "--table", "order_v1"],
        &program.data(),
    ));
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=")).unwrap();
        rest.split(' ').next().unwrap().to_owned()
    };
    let tree = format!("{}-{}", field("group"), field("tree"));
    let tree = program.data().join("tables/trees").join(tree);
    let old = program.folder().join("old");
    copy_folder(&tree, &old);
    program.start_again();
    let mut orders = program.place().session("orders");
    orders.ok("UPDATE public.order_v1 SET note = 'later' WHERE id = 500");
    drop(orders);
    program.signal(Signal::TERM);
    program.wait();
    assert_eq!(freehold(&["check"], &program.data()).status.code(), Some(0));
    fs::remove_dir_all(&tree).unwrap();
    copy_folder(&old, &tree);
    let output = freehold(&["check"], &program.data());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("expected 1900 rows with checksum"), "{text}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = (
            entry.as_ref().unwrap().path(),
            entry.as_ref().unwrap().file_name(),
        );
        match path.is_dir() {
            true => copy_folder(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

/// The lines of a dump as JSON objects.
fn dumped(arguments: &[&str], data: &Path) -> Vec<Value> {
    let output = freehold(&[arguments, &["--format", "json"]].concat(), data);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
        .collect()
}

#[test]
fn a_dump_shows_what_is_there_and_writes_nothing() {
    let mut program = node("lsm");
    program.kill();
    let data = program.data();
    let before = bytes_of(&data);

    let tables = dumped(&["dump", "tables", "--table", "order_v1", "--rows"], &data);
    assert_eq!(tables.len(), 1901);
    assert_eq!(tables[0]["name"], "public.order_v1");
    assert_eq!(tables[0]["row"]["id"], 101);
    assert_eq!(tables[1899]["row"]["note"], "changed");
    assert_eq!(
        (&tables[1900]["rows"], &tables[1900]["owner"]),
        (&1900.into(), &"orders".into())
    );
    let group = tables[1900]["group"].to_string();

    let entries = dumped(
        &["dump", "journal", "--kind", "entry", "--group", &group],
        &data,
    );
    assert!(entries.len() >= 6, "{entries:?}");
    assert!(entries.iter().all(|entry| entry["kind"] == "entry"));
    let deleting = &entries[entries.len() - 3];
    assert_eq!(
        (&deleting["changes"], &deleting["role"]),
        (&100.into(), &"orders".into())
    );
    let position = deleting["position"].as_str().unwrap();

    let later = dumped(
        &[
            "dump",
            "journal",
            "--changes",
            "--group",
            &group,
            "--after",
            position,
        ],
        &data,
    );
    let updates: Vec<_> = later.iter().filter(|line| line["op"] == "update").collect();
    assert_eq!(updates.len(), 10, "{later:?}");
    assert_eq!(updates[0]["old"]["note"], "note 1991");
    assert_eq!(updates[0]["new"]["note"], "changed");
    let event = later.iter().find(|line| line["op"] == "event").unwrap();
    assert_eq!(event["name"], "order.placed");
    assert!(
        !later.iter().any(|line| line.to_string().contains("never")),
        "a rolled back row is in the journal"
    );

    let raft = dumped(&["dump", "raft"], &data);
    // The directory and two owners.
    assert_eq!(raft.len(), 3, "{raft:?}");
    assert!(raft.iter().all(|group| {
        group["vote"].as_str().unwrap().contains("elected")
            && group["members"].as_str().unwrap().starts_with("voters")
            && group["last_index"].as_u64() >= group["checkpoint_index"].as_u64()
    }));
    assert!(bytes_of(&data) == before, "dump wrote something");
}
