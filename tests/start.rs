//! Starts that must not happen, each with what to do about it and before anything is opened; and
//! the log as text and as JSON.

use std::net::TcpListener;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use tests::{Program, SUPERUSER, Security, command, run};

/// What `freehold start` says that does not start.
fn refused(data: &Path, options: &[&str]) -> String {
    let mut start = command();
    start.arg("start").arg("--data").arg(data).args(options);
    if !options.contains(&"--listen") {
        start.args(["--listen", "127.0.0.1:0"]);
    }
    let output = run(&mut start, "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{options:?}: {said}");
    assert!(output.stdout.is_empty(), "{options:?} became ready");
    said
}

#[test]
fn starts_that_can_not_work_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("file");
    std::fs::write(&file, "listne = \"127.0.0.1:1\"\n").unwrap();
    let file = file.to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (options, expected) in [
        (&[][..], "--superuser-password"),
        (&["--superuser-password="], "must not be empty"),
        (&["--insecure", "--listen", "0.0.0.0:0"], "loopback only"),
        (
            &["--insecure", "--listen", &taken],
            "choose another address with --listen",
        ),
        (
            &["--insecure", "--tls-cert", file],
            "--tls-cert needs --tls-key",
        ),
        (
            &["--insecure", "--tls-cert", "/nowhere/a", "--tls-key", file],
            "could not read /nowhere/a",
        ),
        (
            &["--insecure", "--tls-cert", file, "--tls-key", file],
            "--tls-cert, --tls-key: ",
        ),
        (&["--insecure", "--config", file], "unknown field `listne`"),
        (
            &["--insecure", "--config", "/nowhere/c"],
            "--config /nowhere/c: ",
        ),
        (
            &["--insecure", "--table-store", "paper"],
            "must be lsm or sled",
        ),
        (
            &["--insecure", "--segment-size", "1kB"],
            "between 2MB and 1GB",
        ),
        (&["--insecure", "--log", "a=b=c"], "--log "),
    ] {
        let said = refused(&data, options);
        assert!(said.contains(expected), "{options:?}: {said}");
        assert!(!data.exists(), "{options:?} made a folder");
    }
    let said = refused(&Path::new(file).join("data"), &["--insecure"]);
    assert!(said.contains(&format!("{file} is not a folder")), "{said}");
}

#[test]
fn a_folder_belongs_to_one_process_and_one_table_store() {
    let mut program = Program::start();
    let said = refused(&program.data(), &["--insecure"]);
    assert!(said.contains("in use by another process"), "{said}");
    program.signal(Signal::TERM);
    program.wait();
    let said = refused(&program.data(), &["--insecure", "--table-store", "sled"]);
    assert!(said.contains("were made with --table-store lsm"), "{said}");
}

/// It would vote again, and count for what it has acknowledged and has no more.
#[test]
fn a_node_that_has_lost_its_journal_does_not_start() {
    let mut program = Program::start();
    program.signal(Signal::TERM);
    program.wait();
    let data = program.data();
    std::fs::remove_dir_all(data.join("journal")).unwrap();
    let said = refused(&data, &["--insecure"]);
    assert!(said.contains("journal of this folder was lost"), "{said}");
    assert!(!data.join("journal").exists(), "it made one");
    // The tables tell it, too.
    std::fs::remove_file(data.join("identity")).unwrap();
    let said = refused(&data, &["--insecure"]);
    assert!(said.contains("the journal has nothing of group"), "{said}");
}

#[test]
fn settings_come_from_flags_then_variables_then_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("freehold.toml");
    std::fs::write(&file, "table-store = \"paper\"\nsegment-size = \"1kB\"\n").unwrap();
    let start = |variable: Option<&str>, flags: &[&str]| {
        let mut start = command();
        start
            .args(["start", "--insecure", "--config"])
            .arg(&file)
            .args(flags);
        start.arg("--data").arg(folder.path().join("data"));
        if let Some(value) = variable {
            start.env("FREEHOLD_SEGMENT_SIZE", value);
        }
        let output = run(&mut start, "");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // The segment's size is checked before the table store is.
    assert!(start(None, &[]).contains("--segment-size"));
    assert!(start(Some("64MB"), &[]).contains("--table-store paper"));
    assert!(start(Some("64MB"), &["--segment-size", "2kB"]).contains("--segment-size"));
}

#[test]
fn no_role_is_named_as_the_system_schema() {
    let program = Program::start();
    let mut superuser = program.place().session(SUPERUSER);
    let refused = superuser.fail("CREATE ROLE freehold");
    assert_eq!(refused.sqlstate, "42939");
    assert_eq!(refused.message, "role name \"freehold\" is reserved");
    for database in ["freehold", "postgres", SUPERUSER] {
        let mut login = program.place().login(SUPERUSER);
        login.database = database.into();
        assert!(login.open().is_ok(), "{database}");
    }
    let mut login = program.place().login(SUPERUSER);
    login.database = "nowhere".into();
    assert_eq!(login.open().err().map(|e| e.sqlstate), Some("3D000".into()));
}

#[test]
fn json_logs_are_one_object_a_line() {
    let mut program = Program::start_with(
        Security::Trust,
        &["--log-format", "json", "--log-min-duration-statement", "0"],
    );
    let mut superuser = program.place().session(SUPERUSER);
    superuser.ok("SELECT 'a \"quoted\" word'");
    drop(superuser);
    program.signal(Signal::TERM);
    assert!(program.wait().success());
    let log = program.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    for line in &lines {
        assert!(
            line["timestamp"].is_string() && line["level"].is_string(),
            "{line}"
        );
        assert!(line["level"] == "INFO", "{line}");
    }
    let slow = lines
        .iter()
        .find(|line| line["message"] == "slow statement")
        .expect("the statement is logged");
    assert_eq!(slow["statement"], "SELECT 'a \"quoted\" word'");
    assert_eq!(slow["role"], SUPERUSER);
    assert!(slow["duration_ms"].as_f64().is_some(), "{slow}");
    assert!(lines.iter().any(|line| line["message"] == "shutting down"));
}

#[test]
fn text_logs_in_a_file_have_no_colours() {
    let mut program = Program::start();
    program.signal(Signal::TERM);
    assert!(program.wait().success());
    let log = program.log();
    assert!(log.contains("INFO ready address=127.0.0.1:"), "{log}");
    assert!(!log.contains('\x1b'), "{log}");
    assert!(!log.contains("WARN"), "{log}");
}
