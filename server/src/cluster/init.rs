//! `freehold init`: begins a cluster with one of several empty nodes that wait for one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::ask::{Ask, Told};
use super::{ASK_TIME_MAX, Cluster, Place};
use crate::Failure;
use crate::peer::PeerTls;
use crate::temporary::Temporary;

/// What `freehold init` is given.
#[derive(Args)]
pub struct InitFlags {
    /// A node that was started with --join: where its peers reach it.
    #[arg(long, env = "FREEHOLD_PEER", value_name = "HOST:PORT")]
    pub peer: String,
    /// No TLS: on loopback only.
    #[arg(long, env = "FREEHOLD_INSECURE")]
    pub insecure: bool,
    /// PEM file with the certificate of the cluster's authority.
    #[arg(long, env = "FREEHOLD_CLUSTER_CA", value_name = "FILE")]
    pub cluster_ca: Option<PathBuf>,
    /// PEM file with a certificate of that authority.
    #[arg(long, env = "FREEHOLD_CLUSTER_CERT", value_name = "FILE")]
    pub cluster_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    #[arg(long, env = "FREEHOLD_CLUSTER_KEY", value_name = "FILE")]
    pub cluster_key: Option<PathBuf>,
}

/// Asks the node, and says what it answered.
pub fn main(flags: &InitFlags) -> Result<(), Failure> {
    let files = (
        flags.cluster_ca.clone(),
        flags.cluster_cert.clone(),
        flags.cluster_key.clone(),
    );
    let tls = match crate::settings::cluster_tls(files, flags.insecure)? {
        Some((ca, certificate, key)) => PeerTls::from_files(&ca, &certificate, &key)?,
        None => PeerTls::Plain,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        // A stranger without a cluster, for the length of one question.
        let folder = Temporary::make("init")?;
        let place = Place {
            data: folder.path().to_owned(),
            address: String::new(),
            client_address: String::new(),
            locality: BTreeMap::new(),
            seeds: Vec::new(),
            replace_after: Duration::MAX,
        };
        let stranger = Cluster::of(place, false)?;
        stranger.connect(tls);
        let told = stranger.ask_at(&flags.peer, &Ask::Init, ASK_TIME_MAX).await;
        match told? {
            Told::Joined { member } => {
                println!(
                    "cluster {} begins with node {} at {}",
                    member.cluster, member.node, flags.peer
                );
                Ok(())
            }
            Told::Refused { why } | Told::NotNow { why } => Err(why.into()),
            Told::Here { .. }
            | Told::Leads { .. }
            | Told::Copies { .. }
            | Told::Erased { .. }
            | Told::Traces { .. }
            | Told::Lags { .. }
            | Told::Undecided { .. }
            | Told::Passed { .. }
            | Told::Done { .. }
            | Told::Gone
            | Told::Silent
            | Told::Elsewhere { .. } => Err(format!("{} gave no answer to it", flags.peer).into()),
        }
    })
}

impl Cluster {
    /// This node's side: begins a cluster, unless there is one that it could join.
    pub(super) async fn init(self: &Arc<Cluster>) -> Told {
        let refused = |why: String| Told::Refused { why };
        if let Some(member) = self.member() {
            return refused(format!(
                "the node is in cluster {} already, as node {}",
                member.cluster, member.node
            ));
        }
        for seed in &self.place.seeds {
            if *seed == self.place.address {
                continue;
            }
            let there = self.ask_at(seed, &Ask::Ping, ASK_TIME_MAX).await;
            if let Ok(Told::Here {
                member: Some(member),
                ..
            }) = there
            {
                let cluster = member.cluster;
                return refused(format!(
                    "the node at {seed} is in cluster {cluster}, which this one will join"
                ));
            }
        }
        if let Err(error) = self.found() {
            return refused(error.to_string());
        }
        match self.member() {
            Some(member) => Told::Joined { member },
            None => refused("the node could not note its cluster".into()),
        }
    }
}
