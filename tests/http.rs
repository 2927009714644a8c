//! What the node tells over HTTP: metrics that Prometheus reads and docs/operate.md lists, probes
//! that turn, limits that hold; and how it drains.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::{Program, SUPERUSER, Security, Session, command, eventually, report, run};

/// What must happen has happened by then.
const PATIENCE: Duration = Duration::from_secs(60);
/// As documented.
const CONNECTIONS_MAX: usize = 64;

/// One answer.
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Sends bytes and reads to the end of the connection; `None` if there is no answer.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<Response> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused before it is all there.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = stream.read_to_end(&mut answer);
    parse_response(&String::from_utf8(answer).expect("it answers in UTF-8"))
}

fn parse_response(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?;
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(": ").expect("a header");
        (name.to_ascii_lowercase(), value.to_owned())
    });
    Some(Response {
        status: status[..3].parse().ok()?,
        headers: headers.collect(),
        body: body.to_owned(),
    })
}

fn ask(address: SocketAddr, method: &str, path: &str) -> Option<Response> {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    exchange(address, request.as_bytes())
}

pub fn get(address: SocketAddr, path: &str) -> Response {
    let response = ask(address, "GET", path).expect("it answers");
    let length = response.body.len().to_string();
    assert_eq!(response.headers["content-length"], length);
    response
}

/// The status of `/health/ready` and its reasons.
pub fn ready(address: SocketAddr) -> (u16, Vec<String>) {
    let response = get(address, "/health/ready");
    let body: Value = serde_json::from_str(&response.body).expect("a JSON body");
    let reasons = body["reasons"].as_array().expect("reasons").iter();
    let reasons: Vec<String> = reasons
        .map(|reason| reason.as_str().expect("a text").to_owned())
        .collect();
    assert_eq!(body["ready"], reasons.is_empty());
    assert_eq!(response.status == 200, reasons.is_empty());
    (response.status, reasons)
}

/// A family of metrics as it was scraped.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    samples: BTreeMap<String, f64>,
}

/// What was scraped, by name.
#[derive(Debug)]
pub struct Scrape(BTreeMap<String, Family>);

impl Scrape {
    pub fn of(address: SocketAddr) -> Scrape {
        let response = get(address, "/metrics");
        assert_eq!(response.status, 200);
        assert_eq!(
            response.headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        let scrape = parse(&response.body);
        scrape
            .0
            .iter()
            .for_each(|(name, family)| check(name, family));
        scrape
    }

    /// The value of a sample, written as it is in the format.
    pub fn value(&self, sample: &str) -> f64 {
        self.try_value(sample)
            .unwrap_or_else(|| panic!("no {sample} in {self:?}"))
    }

    /// The same, if there is such a sample.
    pub fn try_value(&self, sample: &str) -> Option<f64> {
        let name = sample.split('{').next().unwrap();
        let family = self.0.get(family_of(name, &self.0))?;
        family.samples.get(sample).copied()
    }
}

/// The family that a sample belongs to: a histogram's samples have endings.
fn family_of<'a>(sample: &'a str, families: &BTreeMap<String, Family>) -> &'a str {
    for ending in ["_bucket", "_sum", "_count"] {
        if let Some(name) = sample.strip_suffix(ending)
            && families.get(name).is_some_and(|f| f.kind == "histogram")
        {
            return name;
        }
    }
    sample
}

/// Reads the text format, and nothing that is not to the letter.
fn parse(text: &str) -> Scrape {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut present = String::new();
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            let new = Family {
                help: help.to_owned(),
                ..Family::default()
            };
            assert!(families.insert(name.into(), new).is_none(), "{name} twice");
            present = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, present, "the type follows the help");
            let family = families.get_mut(name).expect("a help came before");
            assert!(
                family.kind.is_empty() && family.samples.is_empty(),
                "{line}"
            );
            family.kind = kind.to_owned();
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            let name = sample.split('{').next().unwrap();
            assert!(is_name(name), "{line}");
            labels(&sample[name.len()..]);
            assert_eq!(family_of(name, &families), present, "samples stay together");
            let value: f64 = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
            let family = families.get_mut(&present).expect("a help came before");
            let twice = family.samples.insert(sample.to_owned(), value);
            assert!(twice.is_none(), "{sample} twice");
        }
    }
    Scrape(families)
}

fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(inner)
}

/// `{name="value",...}` or nothing; the names with their values, escapes undone.
fn labels(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let Some(inner) = text.strip_prefix('{') else {
        assert!(text.is_empty(), "{text}");
        return found;
    };
    let mut rest = inner;
    loop {
        let (name, behind) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{text}");
        let (mut value, mut chars) = (String::new(), behind.char_indices());
        let end = loop {
            match chars.next().expect("the value ends") {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, c @ ('\\' | '"'))) => c,
                    _ => panic!("no such escape: {text}"),
                }),
                (_, c) => value.push(c),
            }
        };
        found.push((name.to_owned(), value));
        rest = &behind[end + 1..];
        match rest {
            "}" => return found,
            _ => rest = rest.strip_prefix(',').expect("a comma"),
        }
    }
}

/// What holds of every family.
fn check(name: &str, family: &Family) {
    assert!(
        ["counter", "gauge", "histogram"].contains(&&*family.kind),
        "{name}: {family:?}"
    );
    assert!(family.help.ends_with('.'), "{name}: {}", family.help);
    assert!(is_name(name));
    let ours = name.starts_with("freehold_") || name.starts_with("process_");
    assert!(ours, "{name}");
    assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
    for (sample, value) in &family.samples {
        assert!(value.is_finite() && *value >= 0.0, "{sample} {value}");
    }
    if family.kind == "histogram" {
        check_histogram(name, family);
    }
}

fn check_histogram(name: &str, family: &Family) {
    let mut buckets = Vec::new();
    for (sample, value) in &family.samples {
        let Some(rest) = sample.strip_prefix(&format!("{name}_bucket")) else {
            continue;
        };
        let labels = labels(rest);
        let (_, bound) = labels.last().expect("a bound");
        let bound = match bound.as_str() {
            "+Inf" => f64::INFINITY,
            bound => bound.parse().expect("a number"),
        };
        buckets.push((bound, *value));
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(
        buckets.windows(2).all(|two| two[0].1 <= two[1].1),
        "{buckets:?}"
    );
    let (last, count) = *buckets.last().expect("a bucket");
    assert_eq!(last, f64::INFINITY);
    assert_eq!(count, family.samples[&format!("{name}_count")]);
    assert!(family.samples.contains_key(&format!("{name}_sum")));
    assert_eq!(family.samples.len(), buckets.len() + 2);
}

/// The table of metrics in docs/operate.md: name, type, labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operate.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| metric |"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let quoted = |cell: &str| -> BTreeSet<String> {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = quoted(cells[1]).pop_first().expect("a name");
        (name, (cells[2].to_owned(), quoted(cells[3])))
    };
    rows.map(row).collect()
}

/// The labels that the samples of a family have, without a histogram's own.
fn labels_of(family: &Family) -> BTreeSet<String> {
    let names = |sample: &String| {
        let begin = sample.find('{').unwrap_or(sample.len());
        labels(&sample[begin..])
    };
    let all = family.samples.keys().flat_map(names);
    all.map(|(name, _)| name)
        .filter(|name| name != "le")
        .collect()
}

fn start(options: &[&str]) -> Program {
    let mut given = vec!["--http", "127.0.0.1:0"];
    given.extend(options);
    Program::start_with(Security::Trust, &given)
}

#[test]
fn every_metric_is_on_the_page_and_every_one_of_the_page_is_there() {
    let program = start(&[]);
    let address = program.http();
    let mut superuser = program.place().session(SUPERUSER);
    // A name that would break a label which is not escaped.
    superuser.ok("CREATE ROLE \"a\"\"b\\c\" LOGIN");
    let mut owner = program.place().session("a\"b\\c");
    owner.ok("CREATE TABLE t (a int PRIMARY KEY)");
    let scrape = Scrape::of(address);
    let documented = documented();
    assert!(documented.len() > 30, "the table is found");
    for (name, family) in &scrape.0 {
        let (kind, labels) = documented
            .get(name)
            .unwrap_or_else(|| panic!("docs/operate.md does not list {name}"));
        assert_eq!(&family.kind, kind, "{name}");
        // A lone node has no copies elsewhere, and nothing to repair: see tests/cluster_views.rs.
        let elsewhere = ["freehold_follower_", "freehold_replica_repair_"];
        match elsewhere.iter().any(|prefix| name.starts_with(prefix)) {
            true => assert!(family.samples.is_empty(), "{name}"),
            false => assert_eq!(&labels_of(family), labels, "{name}"),
        }
    }
    for name in documented.keys() {
        assert!(scrape.0.contains_key(name), "{name} is not told");
    }
    assert_eq!(
        scrape.value("freehold_group_leads{group=\"1\",owner=\"a\\\"b\\\\c\"}"),
        1.0
    );
    assert_eq!(
        scrape.value("freehold_group_leads{group=\"0\",owner=\"\"}"),
        1.0
    );
    report("metrics that are scraped and listed", documented.len());
}

/// The words of a text that are names of our metrics, without a histogram's endings.
fn metrics_in(
    text: &str,
    known: &BTreeMap<String, (String, BTreeSet<String>)>,
) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("freehold_") && *word != "freehold_");
    let named = |word: &str| {
        for ending in ["_bucket", "_sum", "_count"] {
            if let Some(name) = word.strip_suffix(ending)
                && known.get(name).is_some_and(|(kind, _)| kind == "histogram")
            {
                return name.to_owned();
            }
        }
        word.to_owned()
    };
    ours.map(named).collect()
}

#[test]
fn alerts_and_dashboards_ask_for_metrics_that_there_are() {
    let known = documented();
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/freehold");
    for file in ["rules/freehold.yaml", "dashboards/freehold.json"] {
        let text = std::fs::read_to_string(chart.join(file)).unwrap();
        let asked = metrics_in(&text, &known);
        assert!(asked.len() >= 5, "{file}: {asked:?}");
        for name in asked {
            assert!(known.contains_key(&name), "{file} asks for {name}");
        }
    }
}

#[test]
fn numbers_say_what_has_happened() {
    let program = start(&["--max-connections", "50"]);
    let address = program.http();
    let mut superuser = program.place().session(SUPERUSER);
    superuser.ok("CREATE ROLE orders LOGIN");
    let mut owner = program.place().session("orders");
    owner.ok("CREATE TABLE t (a int PRIMARY KEY)");
    let before = Scrape::of(address);
    for a in 0..5 {
        owner.ok(&format!("INSERT INTO t VALUES ({a})"));
    }
    owner.fail("INSERT INTO t VALUES (0)");
    owner.ok("SELECT 1");
    owner.ok("BEGIN; INSERT INTO t VALUES (9); ROLLBACK");
    owner.ok("SELECT count(*) FROM freehold.changes(after => NULL)");
    owner.ok("BEGIN");
    let after = Scrape::of(address);
    let grown = |sample: &str| after.value(sample) - before.value(sample);
    let transactions = |outcome: &str, kind: &str| {
        grown(&format!(
            "freehold_transactions_total{{outcome=\"{outcome}\",kind=\"{kind}\"}}"
        ))
    };
    assert_eq!(transactions("committed", "write"), 5.0);
    assert_eq!(transactions("committed", "read"), 2.0);
    assert_eq!(transactions("aborted", ""), 2.0);
    assert_eq!(grown("freehold_statements_failed_total"), 1.0);
    // Five inserts, two selects, the three of the transaction, BEGIN.
    assert_eq!(grown("freehold_statement_seconds_count"), 11.0);
    assert!(grown("freehold_statement_seconds_sum") > 0.0);
    assert!(grown("freehold_journal_fsync_seconds_count") >= 1.0);
    assert!(grown("freehold_journal_fsync_seconds_sum") > 0.0);
    assert!(grown("freehold_journal_records_total") >= 5.0);
    assert!(grown("freehold_journal_written_bytes_total") > 0.0);
    assert!(grown("freehold_feed_reads_total") >= 1.0);
    assert!(grown("freehold_feed_entries_total") >= 5.0);
    assert_eq!(
        grown("freehold_group_last_index{group=\"1\",owner=\"orders\"}"),
        5.0
    );
    assert_eq!(
        after.value("freehold_sessions{state=\"idle in transaction\"}"),
        1.0
    );
    assert_eq!(after.value("freehold_sessions{state=\"idle\"}"), 1.0);
    assert_eq!(after.value("freehold_connections_max"), 50.0);
    assert_eq!(
        after.value("freehold_group_voters{group=\"1\",owner=\"orders\"}"),
        1.0
    );
    assert_eq!(
        after.value("freehold_group_leader{group=\"1\",owner=\"orders\"}"),
        1.0
    );
    assert_eq!(
        after.value("freehold_group_behind_seconds{group=\"1\",owner=\"orders\"}"),
        0.0
    );
    assert_eq!(after.value("freehold_ready"), 1.0);
    assert!(after.value("process_resident_memory_bytes") > 1e6);
    assert!(after.value("process_open_fds") < after.value("process_max_fds"));
}

#[test]
fn who_waits_for_a_lock_is_counted() {
    let program = start(&[]);
    let mut first = program.place().session(SUPERUSER);
    first.ok("CREATE ROLE orders LOGIN");
    let mut first = program.place().session("orders");
    let mut second = program.place().session("orders");
    first.ok("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1)");
    first.ok("BEGIN; UPDATE t SET a = 1");
    assert_eq!(
        Scrape::of(program.http()).value("freehold_sessions_waiting"),
        0.0
    );
    second.send("UPDATE t SET a = 1");
    eventually("one waits", || {
        Scrape::of(program.http()).value("freehold_sessions_waiting") == 1.0
    });
    first.ok("COMMIT");
}

#[test]
fn paths_and_methods_that_are_not_served_are_refused() {
    let program = start(&[]);
    let address = program.http();
    let index = get(address, "/");
    assert_eq!(index.status, 200);
    for path in ["/metrics", "/health/live", "/health/ready"] {
        assert!(index.body.contains(path), "{}", index.body);
        let head = ask(address, "HEAD", path).expect("it answers");
        assert_eq!((head.status, &*head.body), (200, ""), "{path}");
        let refused = ask(address, "POST", path).expect("it answers");
        assert_eq!(refused.status, 405);
        assert_eq!(refused.headers["allow"], "GET, HEAD");
    }
    assert_eq!(get(address, "/health/live").status, 200);
    assert_eq!(get(address, "/health/live?verbose").status, 200);
    for path in ["/health", "/metrics/", "/../etc/passwd", "/%2e%2e"] {
        assert_eq!(get(address, path).status, 404, "{path}");
    }
    let nonsense = exchange(address, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n");
    assert!(nonsense.is_none_or(|answer| answer.status == 400));
    assert_eq!(ready(address), (200, vec![]));
}

#[test]
fn a_slow_a_huge_and_many_clients_do_not_keep_others_out() {
    let program = start(&[]);
    let address = program.http();
    let huge = format!(
        "GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n",
        "x".repeat(64 << 10)
    );
    let refused = exchange(address, huge.as_bytes());
    assert!(refused.is_none_or(|answer| answer.status == 431));
    let lines = "X: y\r\n".repeat(100);
    let many = format!("GET /metrics HTTP/1.1\r\n{lines}\r\n");
    let refused = exchange(address, many.as_bytes());
    assert!(refused.is_none_or(|answer| answer.status == 431));

    // Half a head each, on every place there is.
    let slow: Vec<TcpStream> = (0..CONNECTIONS_MAX)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    // One more is closed at once.
    assert!(ask(address, "GET", "/health/live").is_none());
    // They are cut off, and then there is room again.
    for mut stream in slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = Vec::new();
        let end = stream.read_to_end(&mut said);
        let timed_out = |kind| matches!(kind, std::io::ErrorKind::WouldBlock);
        assert!(end.is_ok() || end.is_err_and(|e| !timed_out(e.kind())));
    }
    assert_eq!(get(address, "/health/live").status, 200);
}

#[test]
fn nobody_listens_unless_it_is_asked_for() {
    let program = Program::start();
    assert!(!program.log().contains("serving HTTP"));
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (http, expected) in [
        (&*taken, "choose another address with --http"),
        ("nowhere", "give it as HOST:PORT"),
    ] {
        let mut start = command();
        start.args([
            "start",
            "--insecure",
            "--listen",
            "127.0.0.1:0",
            "--http",
            http,
        ]);
        start.arg("--data").arg(folder.path().join("data"));
        let output = run(&mut start, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

/// `freehold drain` on a node's folder: whether it succeeded, and what it said.
pub fn drain(program: &Program, options: &[&str]) -> (bool, String) {
    let mut drain = command();
    drain
        .arg("drain")
        .arg("--data")
        .arg(program.data())
        .args(options);
    let output = run(&mut drain, "");
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said += &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[test]
fn a_drained_node_sends_clients_away_and_serves_those_who_stay() {
    let mut program = start(&[]);
    let address = program.http();
    let mut session = program.place().session(SUPERUSER);
    assert_eq!(ready(address), (200, vec![]));
    let (done, said) = drain(&program, &[]);
    assert!(done, "{said}");
    assert!(said.contains("no other node can lead: 1 group"), "{said}");
    assert_eq!(ready(address), (503, vec!["the node is draining".into()]));
    assert_eq!(get(address, "/health/live").status, 200);
    let scrape = Scrape::of(address);
    assert_eq!(scrape.value("freehold_draining"), 1.0);
    assert_eq!(scrape.value("freehold_ready"), 0.0);
    // A node that is alone leads on.
    session.ok("CREATE ROLE orders LOGIN");
    program
        .place()
        .session("orders")
        .ok("CREATE TABLE t (a int)");
    let (done, said) = drain(&program, &["--cancel"]);
    assert!(done, "{said}");
    assert_eq!(ready(address), (200, vec![]));
    drop(session);
    program.signal(Signal::TERM);
    assert!(program.wait().success());
    assert!(!program.data().join("control").exists());
    let (done, said) = drain(&program, &[]);
    assert!(!done && said.contains("no node answers"), "{said}");
}

#[test]
fn a_data_folder_may_lie_deeper_than_a_sockets_name_is_long() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("x".repeat(200)).join("data");
    let mut child = command()
        .args(["start", "--insecure", "--listen", "127.0.0.1:0", "--data"])
        .arg(&deep)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert!(line.starts_with("freehold is ready"), "{line}");
    let mut drain = command();
    let output = run(drain.arg("drain").arg("--data").arg(&deep), "");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(output.status.success(), "{output:?}");
}

/// The reason why the server ended a session.
fn last_words(session: &mut Session) -> String {
    session
        .last_words(PATIENCE)
        .expect("it says why it ends")
        .sqlstate
}

#[test]
fn the_end_lets_transactions_finish_and_sends_the_idle_away() {
    let mut program = start(&["--drain-timeout", "10min"]);
    let address = program.http();
    let mut superuser = program.place().session(SUPERUSER);
    superuser.ok("CREATE ROLE orders LOGIN");
    let mut busy = program.place().session("orders");
    busy.ok("CREATE TABLE t (a int PRIMARY KEY)");
    busy.ok("BEGIN");
    busy.ok("INSERT INTO t VALUES (1)");
    program.signal(Signal::TERM);
    assert_eq!(last_words(&mut superuser), "57P01");
    // The listener is closed by now or will be; who was there goes on.
    eventually("nobody new comes in", || {
        program.place().login(SUPERUSER).open().is_err()
    });
    assert_eq!(ready(address).0, 503);
    assert_eq!(get(address, "/health/live").status, 200);
    busy.ok("INSERT INTO t VALUES (2)");
    busy.ok("COMMIT");
    assert_eq!(last_words(&mut busy), "57P01");
    assert!(program.wait().success());
    program.start_again();
    let mut owner = program.place().session("orders");
    assert_eq!(owner.value("SELECT count(*) FROM t"), "2");
}

#[test]
fn a_second_signal_gives_no_more_time() {
    let mut program = start(&["--drain-timeout", "10min"]);
    let mut busy = program.place().session(SUPERUSER);
    let mut idle = program.place().session(SUPERUSER);
    busy.send("SELECT pg_sleep(600)");
    eventually("it runs", || {
        let runs = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'";
        idle.value(runs) == "2"
    });
    program.signal(Signal::TERM);
    assert_eq!(last_words(&mut idle), "57P01");
    program.signal(Signal::TERM);
    assert_eq!(last_words(&mut busy), "57P01");
    assert!(program.wait().success());
}

#[test]
fn a_node_that_waits_for_a_cluster_lives_and_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody answers there: the port is ours.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = nowhere.local_addr().unwrap().to_string();
    let mut child = command()
        .args([
            "start",
            "--insecure",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
        ])
        .args(["--peer-listen", "127.0.0.1:0", "--join", &nowhere, "--data"])
        .arg(folder.path().join("data"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let log = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(log).map(|line| line.unwrap());
    let served = lines
        .find(|line| line.contains("serving HTTP"))
        .expect("it serves");
    let (_, address) = served.split_once("address=").expect("an address");
    let address: SocketAddr = address.trim().parse().expect("an address");
    // Reads on, or its log would be full one day.
    let log = std::thread::spawn(move || lines.count());
    eventually("it says what it waits for", || {
        let (status, reasons) = ready(address);
        assert_eq!(status, 503);
        reasons[0].contains("waits for a cluster")
    });
    assert_eq!(get(address, "/health/live").status, 200);
    let scrape = Scrape::of(address);
    assert_eq!(scrape.value("freehold_ready"), 0.0);
    assert!(scrape.try_value("freehold_connections_max").is_none());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    log.join().unwrap();
}
