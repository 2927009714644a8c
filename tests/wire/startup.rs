//! How connections begin, byte by byte: requests for encryption, hostile openings, passwords as
//! verifiers.

use tests::{Program, SUPERUSER, SUPERUSER_PASSWORD, Security, attack};

use super::raw::Raw;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// What PostgreSQL 15 made of the password `third`.
const POSTGRESQL_S: &str = "SCRAM-SHA-256$4096:SaosVcHCZx0aFSHtmF81Bg==$\
    UDAnir44h46jsyVVfyzi2xmWWF7G3hWj7tOtQeQyxNk=:\
    7vXY8KVVOmcsrsoQMTWjpcTL5Wev6Yu/Ilz53GKKy0M=";
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

#[test]
fn requests_for_encryption_are_refused_and_the_connection_goes_on() {
    let program = Program::start();
    for requests in [
        &[GSSENC_REQUEST][..],
        &[SSL_REQUEST],
        &[GSSENC_REQUEST, SSL_REQUEST],
        &[SSL_REQUEST, GSSENC_REQUEST],
    ] {
        let mut raw = Raw::connect(program.place());
        for request in requests {
            raw.send(request);
            assert_eq!(raw.byte(), b'N');
        }
        raw.send(&wire::attack::startup(SUPERUSER));
        assert_eq!(raw.until_ready()[0], (b'R', vec![0, 0, 0, 0]));
    }
    // With TLS, GSSENC alone is refused.
    let program = Program::start_with(Security::Passwords, &[]);
    let mut raw = Raw::connect(program.place());
    raw.send(&GSSENC_REQUEST);
    assert_eq!(raw.byte(), b'N');
    raw.send(&SSL_REQUEST);
    assert_eq!(raw.byte(), b'S');
}

#[test]
fn each_known_attack_is_refused() {
    for security in [Security::Trust, Security::Passwords] {
        let program = Program::start_with(security, &[]);
        attack::five_bytes(program.place()).unwrap();
        attack::plain_bytes_behind_ssl_request(program.place()).unwrap();
        let before_bytes = program.resident_bytes();
        let mut toll = attack::Toll {
            before_bytes,
            ..attack::Toll::default()
        };
        attack::claims(&program, &mut toll).unwrap();
        assert!(
            toll.peak_growth_bytes() < attack::GROWTH_BYTES_MAX,
            "{toll:?}"
        );
        drop(program.place().session(SUPERUSER));
        assert!(!program.log().contains("panicked"), "{}", program.log());
    }
}

#[test]
fn a_verifier_is_as_good_as_its_password_and_survives_a_restart() {
    let mut program = Program::start_with(Security::Passwords, &[]);
    program.place().add_owner("first");
    let mut superuser = program.place().session(SUPERUSER);
    let verifier = superuser.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'first'");
    assert!(verifier.starts_with("SCRAM-SHA-256$4096:"), "{verifier}");
    superuser.ok(&format!("CREATE ROLE second LOGIN PASSWORD '{verifier}'"));
    superuser.ok(&format!(
        "CREATE ROLE third LOGIN PASSWORD '{POSTGRESQL_S}'"
    ));
    program.restart();
    for (user, password) in [
        ("first", "first"),
        ("second", "first"),
        ("third", "third"),
        (SUPERUSER, SUPERUSER_PASSWORD),
    ] {
        let mut login = program.place().login(user);
        login.password = password.into();
        login.open().unwrap_or_else(|e| panic!("{user}: {e:?}"));
        login.password = verifier.clone();
        let failure = login.open().expect_err("a verifier is no password");
        assert_eq!(failure.sqlstate, "28P01");
    }
}
