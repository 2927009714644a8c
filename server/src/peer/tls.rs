//! How nodes know that they talk to nodes: certificates of one authority on both sides, or nothing
//! at all on loopback.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How connections between nodes are protected.
#[derive(Clone)]
pub enum PeerTls {
    /// Not at all: on loopback only, for tests and for trying things out.
    Plain,
    /// TLS 1.3 in which both sides show a certificate of the same authority.
    Mutual(Arc<Mutual>),
}

/// What both roles need; made by [`PeerTls::from_pem`].
pub struct Mutual {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Why there is no TLS between nodes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("could not read {}: {source}", file.display())]
    File {
        /// Its path.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The PEM text of the authority, the certificate or the key is none.
    #[error("invalid PEM of the {part}: {source}")]
    Pem {
        /// Which of the three.
        part: &'static str,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate in it.
    #[error("there is no certificate in the PEM text of the {0}")]
    NoCertificate(&'static str),
    /// The authority's certificates are of no use.
    #[error("the certificate authority is not usable: {0}")]
    Authority(String),
    /// Certificate and key don't go together, or are of an unknown kind.
    #[error("certificate or key is not usable: {0}")]
    Unusable(#[from] rustls::Error),
    /// Plain connections don't leave the machine.
    #[error(
        "{address} is not on loopback, and connections between nodes without TLS (--insecure) are \
         allowed there only: make certificates with freehold cert and leave out --insecure"
    )]
    NotLoopback {
        /// Where somebody would have listened or connected.
        address: IpAddr,
    },
}

/// What is read from, encrypted or not.
pub type Source = Box<dyn AsyncRead + Send + Unpin>;
/// What is written to, encrypted or not.
pub type Sink = Box<dyn AsyncWrite + Send + Unpin>;

impl PeerTls {
    /// From the authority's certificate, a node's certificate chain, its own first, and its key.
    pub fn from_files(ca: &Path, certificate: &Path, key: &Path) -> Result<PeerTls, Error> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| Error::File {
                file: path.to_owned(),
                source,
            })
        };
        PeerTls::from_pem(&read(ca)?, &read(certificate)?, &read(key)?)
    }

    /// The same from PEM texts.
    pub fn from_pem(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<PeerTls, Error> {
        let mut roots = RootCertStore::empty();
        for root in certificates("certificate authority", ca)? {
            roots
                .add(root)
                .map_err(|e| Error::Authority(e.to_string()))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates("certificate", certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| Error::Pem {
            part: "key",
            source,
        })?;
        Ok(PeerTls::Mutual(Arc::new(Mutual {
            server: server(roots.clone(), chain.clone(), key.clone_key())?,
            client: client(roots, chain, key)?,
        })))
    }

    /// May anybody listen there, or connect to it?
    pub fn check(&self, address: SocketAddr) -> Result<(), Error> {
        match self {
            PeerTls::Plain if !address.ip().to_canonical().is_loopback() => {
                Err(Error::NotLoopback {
                    address: address.ip(),
                })
            }
            PeerTls::Plain | PeerTls::Mutual(_) => Ok(()),
        }
    }

    /// The connection of the side that connects. `host` must stand in the peer's certificate.
    pub async fn connect(&self, tcp: TcpStream, host: &str) -> io::Result<(Source, Sink)> {
        match self {
            PeerTls::Plain => Ok(plain(tcp)),
            PeerTls::Mutual(mutual) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|_| {
                    let why = format!("{host} is neither a host's name nor an address");
                    io::Error::new(io::ErrorKind::InvalidInput, why)
                })?;
                let connector = TlsConnector::from(mutual.client.clone());
                Ok(encrypted(connector.connect(name, tcp).await?))
            }
        }
    }

    /// The connection of the side that listens.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<(Source, Sink)> {
        match self {
            PeerTls::Plain => Ok(plain(tcp)),
            PeerTls::Mutual(mutual) => {
                let acceptor = TlsAcceptor::from(mutual.server.clone());
                Ok(encrypted(acceptor.accept(tcp).await?))
            }
        }
    }
}

fn plain(tcp: TcpStream) -> (Source, Sink) {
    let (reader, writer) = tcp.into_split();
    (Box::new(reader), Box::new(writer))
}

fn encrypted<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(tls: S) -> (Source, Sink) {
    let (reader, writer) = tokio::io::split(tls);
    (Box::new(reader), Box::new(writer))
}

fn certificates(part: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Pem { part, source })?;
    match chain.is_empty() {
        true => Err(Error::NoCertificate(part)),
        false => Ok(chain),
    }
}

fn server(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|e| Error::Authority(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
