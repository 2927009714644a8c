//! `freehold cert`: a certificate authority for a cluster and certificates for its nodes, as files
//! that never replace a key that is there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::Failure;

/// How long certificates are valid: as long as a cluster is likely to live. Who wants a shorter
/// time has an authority already, whose certificates work as well.
const VALID: Duration = Duration::from_secs(3650 * 86_400);
/// They are valid from a day ago: clocks differ.
const VALID_BEFORE: Duration = Duration::from_secs(86_400);
/// Hosts of one certificate.
const HOSTS_MAX: usize = 100;

/// What to make.
#[derive(Subcommand)]
pub enum CertCommand {
    /// Makes a cluster's certificate authority: ca.crt for every node, ca.key to be kept safe.
    Ca {
        /// Folder for the files; made if it does not exist.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Makes a node's certificate and key with the authority in the same folder.
    Node {
        /// Folder with ca.crt and ca.key, and for the files.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Names and addresses by which peers and clients reach the node.
        #[arg(long, value_name = "HOST,...", value_delimiter = ',', required = true)]
        host: Vec<String>,
        /// Name of the files, NAME.crt and NAME.key.
        #[arg(long, default_value = "node")]
        name: String,
    },
}

/// Makes it and says what was written.
pub fn main(command: &CertCommand) -> Result<(), Failure> {
    let files = match command {
        CertCommand::Ca { dir } => authority(dir)?,
        CertCommand::Node { dir, host, name } => node(dir, name, host)?,
    };
    for file in files {
        println!("wrote {}", file.display());
    }
    Ok(())
}

/// Writes `ca.crt` and `ca.key`.
pub fn authority(dir: &Path) -> Result<[PathBuf; 2], Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| format!("can't make the folder {}: {e}", dir.display()))?;
    let key = KeyPair::generate()?;
    let certificate = authority_params()?.self_signed(&key)?;
    write(dir, "ca", &certificate.pem(), &key)
}

/// Writes `NAME.crt` and `NAME.key`, signed by the authority in the folder.
pub fn node(dir: &Path, name: &str, hosts: &[String]) -> Result<[PathBuf; 2], Failure> {
    check_name(name)?;
    check_hosts(hosts)?;
    let ca = read(dir, "ca.crt")?;
    let ca_key = read(dir, "ca.key")?;
    let ca_key = KeyPair::from_pem(&ca_key)
        .map_err(|e| format!("{} is no key: {e}", dir.join("ca.key").display()))?;
    let authority = authority_params()?;
    let issuer = Issuer::from_params(&authority, ca_key);
    let key = KeyPair::generate()?;
    let certificate = node_params(name, hosts)?.signed_by(&key, &issuer)?;
    verify(&ca, certificate.der(), hosts).map_err(|e| {
        format!(
            "ca.crt and ca.key in {} don't go together: {e}",
            dir.display()
        )
    })?;
    write(dir, name, &certificate.pem(), &key)
}

fn authority_params() -> Result<CertificateParams, Failure> {
    let mut params = params("Freehold certificate authority", &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn node_params(name: &str, hosts: &[String]) -> Result<CertificateParams, Failure> {
    let mut params = params(name, hosts)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A node listens to its peers and connects to them.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(name: &str, hosts: &[String]) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    params.not_before = date_time_ymd(1970, 1, 1) + now - VALID_BEFORE;
    params.not_after = date_time_ymd(1970, 1, 1) + now + VALID;
    Ok(params)
}

fn check_name(name: &str) -> Result<(), Failure> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(sound) || name.starts_with('.') {
        return Err(format!(
            "--name {name}: letters, digits, -, _ and . make a name; it can't begin with ."
        )
        .into());
    }
    if name == "ca" {
        return Err("--name ca: that is the authority's; choose another one".into());
    }
    Ok(())
}

fn check_hosts(hosts: &[String]) -> Result<(), Failure> {
    if hosts.len() > HOSTS_MAX {
        return Err(format!("--host: at most {HOSTS_MAX} hosts").into());
    }
    for host in hosts {
        // An IPv6 address stands without brackets.
        if ServerName::try_from(host.as_str()).is_err() {
            return Err(format!(
                "--host {host}: neither a host's name nor an IP address (without a port)"
            )
            .into());
        }
    }
    Ok(())
}

/// Does the authority stand behind a certificate, for each of its hosts?
fn verify(ca: &str, certificate: &CertificateDer<'_>, hosts: &[String]) -> Result<(), Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
    for host in hosts {
        let name = ServerName::try_from(host.as_str())?;
        verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now())?;
    }
    Ok(())
}

fn read(dir: &Path, name: &str) -> Result<String, Failure> {
    let path = dir.join(name);
    let text = std::fs::read_to_string(&path);
    text.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no {}: make the authority first, with freehold cert ca --dir {}",
            path.display(),
            dir.display()
        )
        .into(),
        _ => format!("could not read {}: {error}", path.display()).into(),
    })
}

/// Writes both files, or none. The key comes first: where one is, nothing is touched.
fn write(
    dir: &Path,
    name: &str,
    certificate: &str,
    key: &KeyPair,
) -> Result<[PathBuf; 2], Failure> {
    let paths = [
        dir.join(format!("{name}.crt")),
        dir.join(format!("{name}.key")),
    ];
    let [certificate_path, key_path] = &paths;
    create(key_path, 0o600, &key.serialize_pem())?;
    if let Err(error) = create(certificate_path, 0o644, certificate) {
        // Without its certificate the key is of no use, and it would be in the way.
        let _ = std::fs::remove_file(key_path);
        return Err(error);
    }
    Ok(paths)
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file: File = made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!(
            "{} exists and is not overwritten: remove it first, or choose another name or folder",
            path.display()
        ),
        _ => format!("could not write {}: {error}", path.display()),
    })?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::temporary::Temporary;

    fn hosts(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(|&host| host.to_owned()).collect()
    }

    #[test]
    fn keys_are_their_owners_alone_and_stay() {
        let folder = Temporary::make("cert").unwrap();
        let dir = folder.path().join("certs");
        authority(&dir).unwrap();
        node(&dir, "n1", &hosts(&["localhost", "10.0.0.1", "::1"])).unwrap();
        for key in ["ca.key", "n1.key"] {
            let mode = std::fs::metadata(dir.join(key))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        let before = std::fs::read(dir.join("ca.key")).unwrap();
        let error = authority(&dir).unwrap_err().to_string();
        assert!(error.contains("not overwritten"), "{error}");
        assert!(node(&dir, "n1", &hosts(&["localhost"])).is_err());
        assert_eq!(std::fs::read(dir.join("ca.key")).unwrap(), before);
        // Where only the certificate is left, no key appears beside it.
        std::fs::remove_file(dir.join("n1.key")).unwrap();
        assert!(node(&dir, "n1", &hosts(&["localhost"])).is_err());
        assert!(!dir.join("n1.key").exists());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let folder = Temporary::make("cert").unwrap();
        let dir = folder.path();
        let error = node(dir, "n1", &hosts(&["a"])).unwrap_err().to_string();
        assert!(error.contains("freehold cert ca"), "{error}");
        authority(dir).unwrap();
        for name in ["", "ca", "../n1", ".n1", "a b"] {
            assert!(node(dir, name, &hosts(&["a"])).is_err(), "{name}");
        }
        for host in ["", "a:7432", "a b", "[::1]"] {
            assert!(node(dir, "n1", &hosts(&[host])).is_err(), "{host}");
        }
        let other = Temporary::make("cert").unwrap();
        authority(other.path()).unwrap();
        std::fs::copy(other.path().join("ca.key"), dir.join("ca.key")).unwrap();
        let error = node(dir, "n1", &hosts(&["a"])).unwrap_err().to_string();
        assert!(error.contains("don't go together"), "{error}");
    }

    #[test]
    fn the_operators_page_shows_what_works() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(subcommand)]
            command: CertCommand,
        }
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate.md");
        let page = std::fs::read_to_string(page).unwrap();
        let folder = Temporary::make("cert").unwrap();
        let dir = folder.path().join("certs").display().to_string();
        let mut shown = 0;
        for line in page.lines().filter_map(|l| l.strip_prefix("freehold ")) {
            let Some(("cert", _)) = line.split_once(' ') else {
                continue;
            };
            let words = line.split(' ').map(|word| match word {
                "certs" => dir.as_str(),
                word => word,
            });
            let line: Line = clap::Parser::try_parse_from(words).unwrap();
            main(&line.command).unwrap();
            shown += 1;
        }
        assert_eq!(shown, 3);
        assert!(Path::new(&dir).join("n2.key").exists());
    }
}
