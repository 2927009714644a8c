//! TLS between nodes: both sides show certificates of one authority.

use super::*;

/// Authorities and nodes, made by `freehold cert`.
struct Certificates(crate::temporary::Temporary);

impl Certificates {
    fn new() -> Certificates {
        let folder = crate::temporary::Temporary::make("cert").unwrap();
        crate::cert::authority(folder.path()).unwrap();
        Certificates(folder)
    }

    fn node(&self, name: &str, hosts: &[&str]) -> PeerTls {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        crate::cert::node(self.0.path(), name, &hosts).unwrap();
        let file = |name: String| self.0.path().join(name);
        PeerTls::from_files(
            &file("ca.crt".into()),
            &file(format!("{name}.crt")),
            &file(format!("{name}.key")),
        )
        .unwrap()
    }
}

async fn answer(tls: PeerTls, address: &str) -> Result<Bytes, Unreachable> {
    let peers = Peers::new(Node::new(2), tls, Options::default());
    let while_ = Duration::from_secs(2);
    peers.call(address, Lane::Data, "who".into(), while_).await
}

#[tokio::test]
async fn both_sides_show_certificates_of_one_authority() {
    let ours = Certificates::new();
    let tls = ours.node("n1", &["localhost", "127.0.0.1"]);
    let listening = Listening::start_at("127.0.0.1:0", Node::new(1), tls, Options::default()).await;
    let port = listening.address.parse::<SocketAddr>().unwrap().port();
    let client = ours.node("n2", &["n2.example"]);
    for host in ["127.0.0.1", "localhost"] {
        let who = answer(client.clone(), &format!("{host}:{port}")).await;
        assert_eq!(who.unwrap(), "node 2 on data");
    }

    let foreign = Certificates::new();
    let tls = foreign.node("n3", &["127.0.0.1"]);
    let error = answer(tls, &listening.address).await.unwrap_err();
    assert!(matches!(error, Unreachable::Unconnected { .. }), "{error}");
    let error = answer(PeerTls::Plain, &listening.address)
        .await
        .unwrap_err();
    assert!(matches!(error, Unreachable::Unconnected { .. }), "{error}");

    // The right authority, the wrong host.
    let tls = ours.node("n4", &["elsewhere.example"]);
    let elsewhere = Listening::start_at("127.0.0.1:0", Node::new(1), tls, Options::default()).await;
    let error = answer(client, &elsewhere.address).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_is_not_heard() {
    let ours = Certificates::new();
    let tls = ours.node("n1", &["127.0.0.1"]);
    let listening = Listening::start_at("127.0.0.1:0", Node::new(1), tls, Options::default()).await;
    // It trusts our authority, and has a certificate of another one, or none.
    let foreign = Certificates::new();
    foreign.node("n2", &["127.0.0.1"]);
    let read =
        |folder: &Certificates, name: &str| std::fs::read(folder.0.path().join(name)).unwrap();
    let mixed = PeerTls::from_pem(
        &read(&ours, "ca.crt"),
        &read(&foreign, "n2.crt"),
        &read(&foreign, "n2.key"),
    );
    let error = answer(mixed.unwrap(), &listening.address)
        .await
        .unwrap_err();
    assert!(matches!(error, Unreachable::Unconnected { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("alert") || error.contains("closed"),
        "{error}"
    );

    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject as _;
    let ca = rustls::pki_types::CertificateDer::from_pem_slice(&read(&ours, "ca.crt")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = "127.0.0.1".try_into().unwrap();
    let heard = async {
        let mut tls = connector.connect(name, listening.raw().await).await?;
        tls.read(&mut [0]).await
    };
    let error = heard.await.unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
}
