//! The settings of `freehold start`: flags, FREEHOLD_* variables and an optional TOML file, in
//! that order of precedence; all of them are checked before anything is opened.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::start::{journal_folder, tables_folder};

/// What can be said on the command line, in the environment and in the file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Flags {
    /// Folder of the node: journal, tables, identity. Made if it does not exist.
    #[arg(long, env = "FREEHOLD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address for PostgreSQL clients [default: 127.0.0.1:5432].
    #[arg(long, env = "FREEHOLD_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address for /metrics and /health over HTTP; none unless it is given.
    #[arg(long, env = "FREEHOLD_HTTP", value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// No passwords and no TLS; allowed on loopback only.
    #[arg(long, env = "FREEHOLD_INSECURE", num_args = 0..=1, default_missing_value = "true")]
    pub insecure: Option<bool>,
    /// Password of the superuser `postgres`, set on the first start.
    #[arg(
        long,
        env = "FREEHOLD_SUPERUSER_PASSWORD",
        value_name = "TEXT",
        hide_env_values = true
    )]
    pub superuser_password: Option<String>,
    /// PEM file with the server's certificate chain; TLS is offered when given.
    #[arg(long, env = "FREEHOLD_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    #[arg(long, env = "FREEHOLD_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Address for the other nodes of a cluster [default: none, the node stays alone].
    #[arg(long, env = "FREEHOLD_PEER_LISTEN", value_name = "HOST:PORT")]
    pub peer_listen: Option<String>,
    /// Where the other nodes reach this one, if that is not --peer-listen.
    #[arg(long, env = "FREEHOLD_PEER_ADVERTISE", value_name = "HOST:PORT")]
    pub peer_advertise: Option<String>,
    /// Nodes that may know a cluster: an empty node begins none and waits until one of them takes
    /// it in.
    #[arg(
        long,
        env = "FREEHOLD_JOIN",
        value_name = "HOST:PORT,...",
        value_delimiter = ','
    )]
    pub join: Option<Vec<String>>,
    /// PEM file with the certificate of the cluster's authority (freehold cert ca).
    #[arg(long, env = "FREEHOLD_CLUSTER_CA", value_name = "FILE")]
    pub cluster_ca: Option<PathBuf>,
    /// PEM file with this node's certificate of that authority (freehold cert node).
    #[arg(long, env = "FREEHOLD_CLUSTER_CERT", value_name = "FILE")]
    pub cluster_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    #[arg(long, env = "FREEHOLD_CLUSTER_KEY", value_name = "FILE")]
    pub cluster_key: Option<PathBuf>,
    /// Where the node stands: replicas spread over zones.
    #[arg(long, env = "FREEHOLD_LOCALITY", value_name = "region=R,zone=Z")]
    pub locality: Option<String>,
    /// A node that has not answered for this time is replaced by another one [default: 10min].
    #[arg(long, env = "FREEHOLD_REPLACE_AFTER", value_name = "TIME")]
    pub replace_after: Option<Time>,
    /// Most client connections at once [default: 1000].
    #[arg(long, env = "FREEHOLD_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<u32>,
    /// Time within which a client must have authenticated [default: 60s].
    #[arg(long, env = "FREEHOLD_AUTHENTICATION_TIMEOUT", value_name = "TIME")]
    pub authentication_timeout: Option<Time>,
    /// At the end statements and open transactions may go on for so long [default: 10s].
    #[arg(long, env = "FREEHOLD_DRAIN_TIMEOUT", value_name = "TIME")]
    pub drain_timeout: Option<Time>,
    /// Where tables are kept: lsm or sled [default: lsm]. Fixed on the first start.
    #[arg(long, env = "FREEHOLD_TABLE_STORE", value_name = "KIND")]
    pub table_store: Option<String>,
    /// Block cache of the table store [default: 256MB].
    #[arg(long, env = "FREEHOLD_CACHE_SIZE", value_name = "SIZE")]
    pub cache_size: Option<Size>,
    /// A checkpoint at the latest after this time [default: 30s].
    #[arg(long, env = "FREEHOLD_CHECKPOINT_TIMEOUT", value_name = "TIME")]
    pub checkpoint_timeout: Option<Time>,
    /// What was deleted is gone from every copy after this time at the latest [default: 1h].
    #[arg(long, env = "FREEHOLD_ERASE_AFTER", value_name = "TIME")]
    pub erase_after: Option<Time>,
    /// The feed keeps entries for this time [default: 7d].
    #[arg(long, env = "FREEHOLD_RETAIN_TIME", value_name = "TIME")]
    pub retain_time: Option<Time>,
    /// The journal keeps at most this much for the feed [default: 16GB].
    #[arg(long, env = "FREEHOLD_RETAIN_SIZE", value_name = "SIZE")]
    pub retain_size: Option<Size>,
    /// Size of a journal segment, which also limits one row's change [default: 64MB].
    #[arg(long, env = "FREEHOLD_SEGMENT_SIZE", value_name = "SIZE")]
    pub segment_size: Option<Size>,
    /// Statements slower than this are logged; -1 for none, 0 for all, in milliseconds
    /// [default: -1].
    #[arg(
        long,
        env = "FREEHOLD_LOG_MIN_DURATION_STATEMENT",
        value_name = "MS",
        allow_hyphen_values = true
    )]
    pub log_min_duration_statement: Option<i64>,
    /// Log lines as text or json [default: text].
    #[arg(long, env = "FREEHOLD_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What to log: error, warn, info, debug, or filters such as `info,raft=debug`
    /// [default: info].
    #[arg(long, env = "FREEHOLD_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A number of bytes: `64MB`, `1GB`, `4096`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Scalar")]
pub struct Size(pub u64);

/// A length of time: `500ms`, `30s`, `10min`, `12h`, `7d`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "Scalar")]
pub struct Time(pub Duration);

/// TOML gives a bare number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
}

impl TryFrom<Scalar> for Size {
    type Error = String;
    fn try_from(scalar: Scalar) -> Result<Size, String> {
        match scalar {
            Scalar::Number(bytes) => Ok(Size(bytes)),
            Scalar::Text(text) => text.parse(),
        }
    }
}

impl TryFrom<Scalar> for Time {
    type Error = String;
    fn try_from(scalar: Scalar) -> Result<Time, String> {
        match scalar {
            Scalar::Number(_) => Err("a time needs a unit: ms, s, min, h or d".into()),
            Scalar::Text(text) => text.parse(),
        }
    }
}

/// A number and its unit, factor taken from `units`.
fn parse_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let factor = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))?
        .1;
    number.checked_mul(factor)
}

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        let units = [
            ("", 1),
            ("B", 1),
            ("kB", 1 << 10),
            ("MB", 1 << 20),
            ("GB", 1 << 30),
            ("TB", 1 << 40),
        ];
        parse_unit(text, &units).map(Size).ok_or_else(|| {
            format!("\"{text}\" is not a size such as 64MB (units B, kB, MB, GB, TB)")
        })
    }
}

impl FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Time, String> {
        let units = [
            ("ms", 1),
            ("s", 1000),
            ("min", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
        ];
        parse_unit(text, &units)
            .map(|ms| Time(Duration::from_millis(ms)))
            .ok_or_else(|| format!("\"{text}\" is not a time such as 30s (units ms, s, min, h, d)"))
    }
}

/// Settings that passed the checks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the node.
    pub data: PathBuf,
    /// Address for clients.
    pub listen: SocketAddr,
    /// Address for metrics and health.
    pub http: Option<SocketAddr>,
    /// No passwords, no TLS.
    pub insecure: bool,
    /// Password of `postgres` for the first start.
    pub superuser_password: Option<String>,
    /// Certificate and key files.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Address for other nodes.
    pub peer_listen: Option<SocketAddr>,
    /// Where other nodes reach this one, if that is said.
    pub peer_advertise: Option<String>,
    /// Nodes that may know a cluster.
    pub join: Vec<String>,
    /// Files of the authority's certificate, this node's and its key; none: no TLS.
    pub cluster_tls: Option<(PathBuf, PathBuf, PathBuf)>,
    /// Where the node stands.
    pub locality: BTreeMap<String, String>,
    /// A silent node is replaced after this time.
    pub replace_after: Duration,
    /// Most client connections.
    pub connections_max: u32,
    /// Time to authenticate.
    pub authentication_timeout: Duration,
    /// What runs at the end may go on for so long.
    pub drain_timeout: Duration,
    /// The table store's kind.
    pub table_store: storage::StoreKind,
    /// Block cache in bytes.
    pub cache_bytes: u64,
    /// Checkpoint interval.
    pub checkpoint_timeout: Duration,
    /// What was deleted is gone after this time.
    pub erase_after: Duration,
    /// Feed retention by time.
    pub retain_time: Duration,
    /// Feed retention by bytes of the journal.
    pub retain_bytes: u64,
    /// Segment size in bytes.
    pub segment_bytes: u64,
    /// Slow statement limit in milliseconds; negative = off.
    pub log_min_duration_ms: i64,
    /// Look of the log lines.
    pub log_format: LogFormat,
    /// Filter of the log lines.
    pub log: String,
}

/// A setting that can't be used: what, and what to do.
#[derive(Debug)]
pub struct Invalid(pub String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

fn invalid(text: impl Into<String>) -> Invalid {
    Invalid(text.into())
}

/// Smallest and largest sizes that work.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 2 << 20..=1 << 30;
// One part of a large transaction is one record, which one segment must hold.
const _: () = assert!(*SEGMENT_BYTES.start() >= 2 * storage::PART_BYTES_MAX as u64);
/// Two rounds that each wait for what is read, and for copies to report.
const ERASE_AFTER_MIN: Duration = Duration::from_secs(20);
const CACHE_BYTES_MIN: u64 = 1 << 20;
const CONNECTIONS_MAX: u32 = 100_000;

impl Flags {
    /// Fills what is not given here from the TOML file.
    pub fn with_file(self, path: &Path) -> Result<Flags, Invalid> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| invalid(format!("--config {}: {e}", path.display())))?;
        let file: Flags = toml::from_str(&text)
            .map_err(|e| invalid(format!("--config {}: {e}", path.display())))?;
        Ok(self.or(file))
    }

    fn or(self, file: Flags) -> Flags {
        Flags {
            data: self.data.or(file.data),
            listen: self.listen.or(file.listen),
            http: self.http.or(file.http),
            insecure: self.insecure.or(file.insecure),
            superuser_password: self.superuser_password.or(file.superuser_password),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            peer_listen: self.peer_listen.or(file.peer_listen),
            peer_advertise: self.peer_advertise.or(file.peer_advertise),
            join: self.join.or(file.join),
            cluster_ca: self.cluster_ca.or(file.cluster_ca),
            cluster_cert: self.cluster_cert.or(file.cluster_cert),
            cluster_key: self.cluster_key.or(file.cluster_key),
            locality: self.locality.or(file.locality),
            replace_after: self.replace_after.or(file.replace_after),
            max_connections: self.max_connections.or(file.max_connections),
            authentication_timeout: self.authentication_timeout.or(file.authentication_timeout),
            drain_timeout: self.drain_timeout.or(file.drain_timeout),
            table_store: self.table_store.or(file.table_store),
            cache_size: self.cache_size.or(file.cache_size),
            checkpoint_timeout: self.checkpoint_timeout.or(file.checkpoint_timeout),
            erase_after: self.erase_after.or(file.erase_after),
            retain_time: self.retain_time.or(file.retain_time),
            retain_size: self.retain_size.or(file.retain_size),
            segment_size: self.segment_size.or(file.segment_size),
            log_min_duration_statement: self
                .log_min_duration_statement
                .or(file.log_min_duration_statement),
            log_format: self.log_format.or(file.log_format),
            log: self.log.or(file.log),
        }
    }

    /// Checks everything and fills the defaults.
    pub fn check(self) -> Result<Settings, Invalid> {
        let data = self.data.ok_or_else(|| invalid("--data DIR is required"))?;
        let listen = resolve(
            "--listen",
            self.listen.as_deref().unwrap_or("127.0.0.1:5432"),
        )?;
        let http = self.http.map(|http| resolve("--http", &http)).transpose()?;
        let insecure = self.insecure.unwrap_or(false);
        if insecure && !listen.ip().is_loopback() {
            return Err(invalid(format!(
                "--insecure is allowed on loopback only, and {listen} is not: \
                 leave out --insecure, or listen on 127.0.0.1"
            )));
        }
        let segment_bytes = self.segment_size.map_or(64 << 20, |s| s.0);
        if !SEGMENT_BYTES.contains(&segment_bytes) {
            return Err(invalid("--segment-size must lie between 2MB and 1GB"));
        }
        let cache_bytes = self.cache_size.map_or(256 << 20, |s| s.0);
        if cache_bytes < CACHE_BYTES_MIN {
            return Err(invalid("--cache-size must be at least 1MB"));
        }
        let connections_max = self.max_connections.unwrap_or(1000);
        if !(1..=CONNECTIONS_MAX).contains(&connections_max) {
            return Err(invalid("--max-connections must lie between 1 and 100000"));
        }
        let erase_after = time_or(self.erase_after, 3600);
        if erase_after < ERASE_AFTER_MIN {
            return Err(invalid("--erase-after must be at least 20s"));
        }
        if self.superuser_password.as_deref() == Some("") {
            return Err(invalid("--superuser-password must not be empty"));
        }
        let peer_listen = self.peer_listen.as_deref();
        let peer_listen = peer_listen
            .map(|at| resolve("--peer-listen", at))
            .transpose()?;
        let join = self.join.unwrap_or_default();
        let files = (self.cluster_ca, self.cluster_cert, self.cluster_key);
        let cluster_tls = match peer_listen {
            Some(_) => cluster_tls(files, insecure)?,
            None if !join.is_empty() => return Err(invalid("--join needs --peer-listen")),
            None => None,
        };
        Ok(Settings {
            data,
            peer_listen,
            peer_advertise: self.peer_advertise,
            join,
            cluster_tls,
            locality: locality(self.locality.as_deref().unwrap_or_default())?,
            replace_after: time_or(self.replace_after, 600),
            listen,
            http,
            insecure,
            superuser_password: self.superuser_password,
            tls: tls_files(self.tls_cert, self.tls_key)?,
            connections_max,
            authentication_timeout: time_or(self.authentication_timeout, 60),
            drain_timeout: time_or(self.drain_timeout, 10),
            table_store: store_kind(self.table_store.as_deref().unwrap_or("lsm"))?,
            cache_bytes,
            checkpoint_timeout: time_or(self.checkpoint_timeout, 30),
            erase_after,
            retain_time: time_or(self.retain_time, 7 * 86_400),
            retain_bytes: self.retain_size.map_or(16 << 30, |s| s.0),
            segment_bytes,
            log_min_duration_ms: self.log_min_duration_statement.unwrap_or(-1),
            log_format: self.log_format.unwrap_or_default(),
            log: self.log.unwrap_or_else(|| "info".into()),
        })
    }
}

impl Settings {
    /// Can a node start in its folder? Looks, and makes nothing.
    pub fn usable(&self) -> Result<(), Invalid> {
        let data = &self.data;
        // The nearest folder that exists decides whether the others can be made.
        let nearest = data.ancestors().find(|path| path.exists());
        if let Some(path) = nearest.filter(|path| !path.is_dir()) {
            return Err(invalid(format!(
                "--data {}: {} is not a folder",
                data.display(),
                path.display()
            )));
        }
        if let Ok(Some(kind)) = storage::kind_of(&tables_folder(data))
            && kind != self.table_store
        {
            return Err(invalid(format!(
                "--table-store {}: the tables in {} were made with --table-store {}, \
                 which is fixed on the first start",
                self.table_store.name(),
                data.display(),
                kind.name()
            )));
        }
        let first = !has_files(&journal_folder(data));
        // Who joins a cluster gets its roles from there.
        let founds = first && self.join.is_empty();
        if founds && !self.insecure && self.superuser_password.is_none() {
            return Err(no_password());
        }
        Ok(())
    }
}

/// Is there anything in a folder?
fn has_files(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
}

/// The first start needs a password for the superuser, or nobody could ever log in.
pub fn no_password() -> Invalid {
    invalid(
        "the first start needs a password for the superuser postgres: give one with \
         FREEHOLD_SUPERUSER_PASSWORD or --superuser-password \
         (or --insecure: no passwords at all, on loopback only)",
    )
}

fn time_or(time: Option<Time>, seconds: u64) -> Duration {
    time.map_or(Duration::from_secs(seconds), |t| t.0)
}

fn resolve(flag: &str, address: &str) -> Result<SocketAddr, Invalid> {
    use std::net::ToSocketAddrs as _;
    let mut found = address
        .to_socket_addrs()
        .map_err(|e| invalid(format!("{flag} {address}: {e}; give it as HOST:PORT")))?;
    found
        .next()
        .ok_or_else(|| invalid(format!("{flag} {address}: no such address")))
}

fn tls_files(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, Invalid> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (Some(_), None) => Err(invalid("--tls-cert needs --tls-key")),
        (None, Some(_)) => Err(invalid("--tls-key needs --tls-cert")),
    }
}

/// The files of mutual TLS between nodes, or none under --insecure.
pub fn cluster_tls(
    files: (Option<PathBuf>, Option<PathBuf>, Option<PathBuf>),
    insecure: bool,
) -> Result<Option<(PathBuf, PathBuf, PathBuf)>, Invalid> {
    match files {
        (Some(ca), Some(cert), Some(key)) => Ok(Some((ca, cert, key))),
        (None, None, None) if insecure => Ok(None),
        (None, None, None) => Err(invalid(
            "the connections between nodes need certificates: make them with freehold cert and \
             give --cluster-ca, --cluster-cert and --cluster-key (or --insecure, on loopback only)",
        )),
        _ => Err(invalid(
            "--cluster-ca, --cluster-cert and --cluster-key belong together",
        )),
    }
}

/// `region=eu,zone=a`.
fn locality(text: &str) -> Result<BTreeMap<String, String>, Invalid> {
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err(invalid(format!(
            "--locality {text}: give it as region=R,zone=Z"
        ))),
    };
    pairs.map(pair).collect()
}

/// `lsm` or `sled`.
pub fn store_kind(text: &str) -> Result<storage::StoreKind, Invalid> {
    match text {
        "lsm" => Ok(storage::StoreKind::Lsm),
        "sled" => Ok(storage::StoreKind::Sled),
        _ => Err(invalid(format!(
            "--table-store {text}: must be lsm or sled"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        Flags {
            data: Some("/tmp/x".into()),
            ..Flags::default()
        }
    }

    #[test]
    fn sizes_and_times_are_read_with_their_units() {
        assert_eq!("64MB".parse(), Ok(Size(64 << 20)));
        assert_eq!("4096".parse(), Ok(Size(4096)));
        assert_eq!("2 gb".parse(), Ok(Size(2 << 30)));
        assert_eq!("10min".parse(), Ok(Time(Duration::from_secs(600))));
        assert!("10".parse::<Time>().is_err());
        assert!("-1MB".parse::<Size>().is_err());
        assert!("99999999999TB".parse::<Size>().is_err());
    }

    #[test]
    fn insecure_is_for_loopback_only() {
        let open = |listen: &str| Flags {
            listen: Some(listen.into()),
            insecure: Some(true),
            ..flags()
        };
        assert!(open("0.0.0.0:5432").check().is_err());
        assert!(open("127.0.0.1:0").check().is_ok());
        assert!(open("[::1]:0").check().is_ok());
    }

    #[test]
    fn nodes_talk_over_tls_or_on_loopback() {
        let peers = Flags {
            peer_listen: Some("127.0.0.1:0".into()),
            join: Some(vec!["a:1".into()]),
            ..flags()
        };
        let error = peers.clone().check().unwrap_err().to_string();
        assert!(error.contains("freehold cert"), "{error}");
        let insecure = Flags {
            insecure: Some(true),
            ..peers.clone()
        };
        assert!(insecure.check().is_ok());
        let half = Flags {
            cluster_ca: Some("ca".into()),
            ..peers
        };
        assert!(half.check().is_err());
        let join = Flags {
            join: Some(vec!["a:1".into()]),
            ..flags()
        };
        assert!(join.check().is_err(), "nobody could reach it");
    }

    #[test]
    fn a_locality_is_pairs() {
        assert_eq!(locality("").unwrap().len(), 0);
        let found = locality("region=eu, zone=a").unwrap();
        assert_eq!(found.get("zone").map(String::as_str), Some("a"));
        assert!(locality("eu").is_err());
        assert!(locality("zone=").is_err());
    }

    #[test]
    fn a_segment_holds_every_part_of_a_transaction() {
        let sized = |bytes: u64| Flags {
            segment_size: Some(Size(bytes)),
            ..flags()
        };
        let error = sized(1 << 20).check().unwrap_err().to_string();
        assert!(error.contains("between 2MB and 1GB"), "{error}");
        assert!(sized(2 << 20).check().is_ok());
    }

    #[test]
    fn the_file_fills_what_flags_leave_open() {
        let file = std::env::temp_dir().join(format!("freehold-{}.toml", std::process::id()));
        std::fs::write(&file, "listen = \"127.0.0.1:7777\"\nretain-time = \"1h\"\n").unwrap();
        let flags = Flags {
            listen: Some("127.0.0.1:8888".into()),
            ..flags()
        };
        let settings = flags.with_file(&file).unwrap().check().unwrap();
        assert_eq!(settings.listen.port(), 8888);
        assert_eq!(settings.retain_time, Duration::from_secs(3600));
        std::fs::write(&file, "listne = \"127.0.0.1:7777\"\n").unwrap();
        assert!(
            Flags::default().with_file(&file).is_err(),
            "an unknown key is an error"
        );
        std::fs::remove_file(&file).unwrap();
    }
}
