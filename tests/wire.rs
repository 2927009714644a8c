//! The wire as the program speaks it: passwords, cancelling, limits, ends, and hostile bytes.

mod cancel;
mod limits;
mod messages;
pub mod raw;
mod startup;

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use tests::{End, Program, SUPERUSER, Security, attack, report, skipped};

/// How long anything that should happen at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Frames of the assaults; `tests/examples/attack.rs` sends a million.
const FRAMES: usize = 40_000;
const FRAMES_OF_STRANGERS: usize = 10_000;

#[test]
fn a_wrong_password_and_an_unknown_role_look_alike() {
    let program = Program::start_with(Security::Passwords, &[]);
    program.place().add_owner("known");
    let refused = |user: &str| {
        let mut login = program.place().login(user);
        login.password = "wrong".into();
        let failure = login.open().expect_err("the password is wrong");
        failure.text().replace(user, "NAME")
    };
    let known = refused("known");
    assert!(known.contains("28P01"), "{known}");
    assert_eq!(known, refused("ghost"));
    assert_eq!(known, refused("ghost"), "the same again");
    drop(program.place().session("known"));
    // Neither the log nor the catalog tells.
    assert!(
        !program.log().contains("SCRAM-SHA-256$"),
        "a verifier in the log"
    );
    let mut known = program.place().session("known");
    let denied = known.fail("SELECT rolpassword FROM pg_authid");
    assert_eq!(
        (&*denied.sqlstate, &*denied.message),
        ("42501", "permission denied for table pg_authid")
    );
    assert_eq!(
        known.value("SELECT rolpassword FROM pg_roles WHERE rolname = 'known'"),
        "********"
    );
}

#[test]
fn a_login_without_password_is_refused_where_passwords_are_asked() {
    let program = Program::start_with(Security::Passwords, &[]);
    let mut superuser = program.place().session(SUPERUSER);
    superuser.ok("CREATE ROLE silent LOGIN");
    superuser.ok("CREATE ROLE barred PASSWORD 'barred'");
    let refused = |user: &str, password: &str| {
        let mut login = program.place().login(user);
        login.password = password.into();
        let failure = login.open().expect_err("no way in");
        (failure.severity, failure.sqlstate, failure.message)
    };
    let fatal = |sqlstate: &str, message: &str| ("FATAL".into(), sqlstate.into(), message.into());
    let wrong = |user| format!("password authentication failed for user \"{user}\"");
    assert_eq!(
        refused("silent", "silent"),
        fatal("28P01", &wrong("silent"))
    );
    // Who has shown the right password is told why it may not come in; who has not, is not.
    assert_eq!(
        refused("barred", "barred"),
        fatal("28000", "role \"barred\" is not permitted to log in")
    );
    assert_eq!(refused("barred", "wrong"), fatal("28P01", &wrong("barred")));
    let mut login = program.place().login(SUPERUSER);
    login.database = "nowhere".into();
    assert_eq!(login.open().err().map(|e| e.sqlstate), Some("3D000".into()));
}

#[test]
fn cancelling_ends_what_runs_and_needs_the_key() {
    let program = Program::start();
    let mut session = program.place().session(SUPERUSER);
    session.send("SELECT pg_sleep(600)");
    let secret = session.secret;
    session.secret = secret ^ 1;
    session.cancel();
    assert_eq!(
        session.answers_within(Duration::from_millis(300)).unwrap(),
        None
    );
    session.secret = secret;
    session.cancel();
    let answers = session
        .answers_within(PATIENCE)
        .unwrap()
        .expect("cancelled");
    assert_eq!(answers[0].sqlstate(), "57014");
    // A late one does not hit the next statement.
    session.cancel();
    assert_eq!(session.value("SELECT 7"), "7");
}

#[test]
fn an_end_by_sigterm_says_so_to_idle_and_busy_clients() {
    let mut program = Program::start_with(Security::Trust, &["--drain-timeout=100ms"]);
    let mut idle = program.place().session(SUPERUSER);
    let mut busy = program.place().session(SUPERUSER);
    let mut open = program.place().session(SUPERUSER);
    busy.send("SELECT pg_sleep(600)");
    open.ok("BEGIN");
    assert_eq!(
        busy.answers_within(Duration::from_millis(200)).unwrap(),
        None
    );
    program.signal(Signal::TERM);
    for session in [&mut idle, &mut busy, &mut open] {
        let failure = session.last_words(PATIENCE).expect("it says why it ends");
        assert_eq!((&*failure.severity, &*failure.sqlstate), ("FATAL", "57P01"));
    }
    assert!(program.wait().success());
}

#[test]
fn who_does_not_authenticate_in_time_is_cut_off() {
    let program = Program::start_with(Security::Passwords, &["--authentication-timeout=1s"]);
    let address = ("127.0.0.1", program.place().port);
    let silent = TcpStream::connect(address).unwrap();
    let mut halfway = TcpStream::connect(address).unwrap();
    halfway
        .write_all(&wire::attack::startup(SUPERUSER))
        .unwrap();
    for stream in [silent, halfway] {
        attack::read_to_end(stream).expect("the server closes");
    }
    drop(program.place().session(SUPERUSER));
}

#[test]
fn a_statement_takes_65535_parameters() {
    let program = Program::start();
    let mut session = program.place().session(SUPERUSER);
    let count = 65_535;
    let marks: Vec<String> = (1..=count).map(|i| format!("${i}::int")).collect();
    let sql = format!("SELECT cardinality(ARRAY[{}])", marks.join(","));
    let answer = session.extended(&sql, &vec![Some("1"); count]).unwrap();
    assert_eq!(
        answer.rows,
        [[Some(count.to_string())]],
        "{}",
        answer.text()
    );
}

#[test]
fn an_expression_10000_deep_is_an_answer_or_an_error() {
    let program = Program::start();
    let mut session = program.place().session(SUPERUSER);
    let depth = 10_000;
    let deep = [
        format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth)),
        format!("SELECT {}1", "- ".repeat(depth)),
        format!("SELECT {}true", "NOT ".repeat(depth)),
        format!("SELECT 1{}", " + 1".repeat(depth)),
        format!("SELECT {}1{}", "abs(".repeat(depth), ")".repeat(depth)),
        format!("SELECT {}1{}", "(SELECT ".repeat(depth), ")".repeat(depth)),
        format!("SELECT {}1{}", "ARRAY[".repeat(depth), "]".repeat(depth)),
        format!(
            "SELECT {}1{}",
            "CASE WHEN true THEN ".repeat(depth),
            " END".repeat(depth)
        ),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(depth)),
        format!("SELECT '{}{}'::jsonb", "[".repeat(depth), "]".repeat(depth)),
    ];
    for sql in deep {
        let answer = session.run(&sql);
        assert!(
            ["00000", "54001", "54000", "42601", "42804"].contains(&answer.sqlstate()),
            "{}...: {}",
            &sql[..40],
            answer.text()
        );
        assert_eq!(session.value("SELECT 1"), "1");
    }
}

#[test]
fn an_empty_query_and_a_nul_are_answered() {
    let program = Program::start();
    let mut session = program.place().session(SUPERUSER);
    assert_eq!(session.run("").end, End::Empty);
    // A query whose text holds a NUL in the middle is no sound message.
    session.send_bytes(b"Q\0\0\0\x0fSELECT\x001\0;\0").unwrap();
    let ended = session.answers_within(PATIENCE);
    if let Ok(answers) = ended {
        let answers = answers.expect("an answer");
        assert_eq!(answers[0].sqlstate(), "08P01");
    }
    drop(program.place().session(SUPERUSER));
}

#[test]
fn hostile_bytes_leave_the_server_up_and_lean() {
    if !cfg!(target_os = "linux") {
        return skipped("Linux's /proc");
    }
    for (security, frames) in [
        (Security::Trust, FRAMES),
        (Security::Passwords, FRAMES_OF_STRANGERS),
    ] {
        let program = Program::start_with(security, &[]);
        program.place().add_owner(attack::ATTACKER);
        let mut witness = program.place().session(attack::ATTACKER);
        witness.ok("CREATE TABLE t (i int)");
        // The first few thousand fill the pools that every server has.
        attack::assault(&program, 1, 2_000).expect("the server stands");
        let toll = attack::assault(&program, 2, frames).expect("the server stands");
        assert_eq!(toll.frames, frames);
        report("hostile frames", toll.frames);
        assert!(
            toll.peak_growth_bytes() < attack::GROWTH_BYTES_MAX,
            "{toll:?}"
        );
        assert_eq!(witness.value("SELECT 1"), "1");
        assert!(!program.log().contains("panicked"), "{}", program.log());
    }
}
