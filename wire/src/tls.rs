//! TLS for the listener: a rustls configuration from PEM, and the certificate's end-point hash for
//! channel binding.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("could not read {file}: {source}")]
    File {
        /// Its path.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// The PEM text holds no usable certificate or key.
    #[error("invalid PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The PEM text holds no certificate.
    #[error("there is no certificate in the PEM text")]
    NoCertificate,
    /// The certificate and the key don't go together, or rustls doesn't know their kind.
    #[error("certificate or key is not usable: {0}")]
    Unusable(#[from] rustls::Error),
}

/// From a file with the certificate chain, the server's own first, and one with its private key.
pub fn from_files(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| Error::File {
            file: path.display().to_string(),
            source,
        })
    };
    from_pem(&read(certificates)?, &read(key)?)
}

/// From PEM texts: the certificate chain, the server's own first, and its private key. TLS 1.2 and
/// 1.3; no client certificates; no session tickets or resumption, as in PostgreSQL.
pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, Error> {
    let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err(Error::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
