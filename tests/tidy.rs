//! The rules of the house as tests: the crate arrows, a `//!` on every file, one room for each
//! library that breaks its API, no leftovers, documents that name what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The arrows that are allowed; of the crates that stand outside tests, jepsen and bench may use any,
/// model none.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("journal", &[]),
    ("storage", &["journal"]),
    ("sql", &["storage", "journal"]),
    ("raft", &["journal", "storage"]),
    ("feed", &["journal", "storage"]),
    (
        "server",
        &["wire", "sql", "raft", "feed", "journal", "storage"],
    ),
    ("model", &[]),
];

/// Libraries that live in one crate only.
const ROOMS: &[(&str, &str)] = &[
    ("sqlparser", "sql"),
    ("pgwire", "wire"),
    ("openraft", "raft"),
    ("lsm-tree", "storage"),
    ("sled", "storage"),
    ("stateright", "model"),
];

/// The folder of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the workspace exists")
}

/// The names under `[dependencies]` of a crate's manifest.
fn dependencies(krate: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && let Some(name) = line.split(['.', '=', ' ']).next() {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

/// Every Rust file of the repository with its text.
fn rust_files() -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "node_modules") {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                files.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn crates_use_only_the_arrows_that_are_drawn() {
    let ours: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for (krate, allowed) in ARROWS {
        for dependency in dependencies(krate) {
            assert!(
                !ours.contains(dependency.as_str()) || allowed.contains(&dependency.as_str()),
                "{krate} -> {dependency} is not an arrow of docs/architecture.md"
            );
        }
    }
    // storage, and what sql sees of the journal: positions and groups only.
    for (path, text) in rust_files() {
        if path.starts_with(root().join("sql/src")) {
            for line in text.lines().filter(|l| l.contains("journal::")) {
                assert!(
                    !line.contains("Journal") && !line.contains("Disk"),
                    "{}: sql reads the journal: {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn each_library_that_breaks_its_interface_has_one_room() {
    for (library, room) in ROOMS {
        for (krate, _) in ARROWS {
            assert!(
                krate == room || !dependencies(krate).contains(*library),
                "{library} belongs to {room}, and {krate} depends on it"
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = rust_files()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no `//!` on the first line: {silent:?}");
}

#[test]
fn nothing_is_left_over() {
    // Spelt in two halves, so that this file does not find itself.
    let leftovers = [
        ["to", "do!("],
        ["unimple", "mented!("],
        ["FIX", "ME"],
        ["dbg", "!("],
        ["XX", "X "],
    ];
    for (path, text) in rust_files() {
        for leftover in leftovers.map(|halves| halves.concat()) {
            assert!(!text.contains(&leftover), "{}: {leftover}", path.display());
        }
        assert!(
            !text.contains(&["#[ign", "ore"].concat()),
            "{}: an ignored test",
            path.display()
        );
    }
}

/// The words in backquotes that look like a path of the repository.
fn paths_in(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/') && !word.contains([' ', '<', '*', '$', '{', ':']))
        .filter(|word| {
            [".rs", ".md", ".sh", ".py", ".toml", ".sql", ".mjs", ".java"]
                .iter()
                .any(|ending| word.ends_with(ending))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn documents_name_files_that_exist() {
    let mut documents = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        documents.push(entry.unwrap().path());
    }
    for document in documents
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = fs::read_to_string(document).unwrap();
        for path in paths_in(&text) {
            assert!(
                root().join(&path).exists(),
                "{}: no file `{path}`",
                document.display()
            );
        }
    }
}

#[test]
fn promises_name_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/promises.md")).unwrap();
    let sources: String = rust_files().into_values().collect();
    let mut named = 0;
    for word in text.split('`').skip(1).step_by(2) {
        let Some(name) = word.strip_suffix("()") else {
            continue;
        };
        named += 1;
        let name = name.rsplit("::").next().expect("rsplit gives at least one");
        assert!(
            sources.contains(&format!("fn {name}(")),
            "docs/promises.md: no test `{word}`"
        );
    }
    assert!(named >= 7, "docs/promises.md names {named} tests");
}

/// The names in a list of texts of a source file.
fn names_in(file: &str, from: &str, to: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let begin = text
        .find(from)
        .unwrap_or_else(|| panic!("{file} has no {from}"));
    let end = begin + text[begin..].find(to).unwrap();
    let quoted = text[begin..end].split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn every_planted_fault_has_its_place_and_is_hunted() {
    let faults = names_in("journal/src/sabotage.rs", "pub const FAULTS", "];");
    assert!(!faults.is_empty());
    let hunted = names_in("jepsen/src/sabotage.rs", "const PLANTS", "];");
    let sources: Vec<String> = rust_files().into_values().collect();
    for fault in faults {
        assert!(hunted.contains(&fault), "nobody hunts {fault}");
        let place = format!("planted(\"{fault}\")");
        let places = sources.iter().filter(|text| text.contains(&place)).count();
        assert_eq!(places, 1, "{fault} is built in at one place");
    }
}

#[test]
fn a_program_has_no_planted_faults_unless_it_was_asked_for() {
    for (krate, _) in ARROWS {
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        assert!(
            !manifest.contains("default = ["),
            "{krate}: the feature is off"
        );
    }
    let program = fs::read(tests::program_file()).unwrap();
    let name = b"FREEHOLD_SABOTAGE";
    assert!(
        !program.windows(name.len()).any(|bytes| bytes == name),
        "the program was built with the feature `sabotage`"
    );
}
