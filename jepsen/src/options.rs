//! The command line, and the line that plays a run again.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::check::references::OnDelete;
use crate::cluster::{Nemesis, Network};
use crate::fault::Fault;
use crate::victim::{Kind, Store};

/// Faults, histories and their checkers against real processes.
#[derive(Parser, Debug)]
#[command(name = "jepsen", args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to play, if not a workload of one's own choice.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A short slice of everything, with one closing line for machines.
    #[arg(long)]
    pub ci: bool,
    /// The workload and its fault.
    #[command(flatten)]
    pub options: Options,
}

/// Other things to play.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// What a release is judged by: 50 kills and 20 power cuts on each table store, the feed with
    /// 1,000 writers, and every workload with and without faults. With `--nodes 3`: 30 kills of a
    /// leading node, and every workload under every kind of nemesis.
    Judged {
        /// The rest of the settings.
        #[command(flatten)]
        options: Options,
    },
    /// Demands that each fault built into a sabotage build is caught.
    Sabotage {
        /// Only this one.
        #[arg(long)]
        only: Option<String>,
        /// The rest of the settings.
        #[command(flatten)]
        options: Options,
    },
}

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Lists over several keys, SERIALIZABLE, checked for dependency cycles.
    Append,
    /// Transfers; the total is the same in every snapshot.
    Bank,
    /// What is acknowledged is there, what failed isn't, what is unknown is whole or not there.
    Acknowledged,
    /// Consumers see every commit once, in order, whole.
    Feed,
    /// Single registers, read, written and compared-and-set, checked for linearizability.
    Register,
    /// Reads at any node's own cut: they never go back, hold causes before effects, and what a
    /// token names.
    Reads,
    /// Commands between owners: each takes effect once, in its sender's order.
    Commands,
    /// Foreign keys between owners: nobody ever sees a row without its parent.
    References,
}

impl Workload {
    /// The word of the flag.
    pub fn word(self) -> &'static str {
        match self {
            Workload::Append => "append",
            Workload::Bank => "bank",
            Workload::Acknowledged => "acknowledged",
            Workload::Feed => "feed",
            Workload::Register => "register",
            Workload::Reads => "reads",
            Workload::Commands => "commands",
            Workload::References => "references",
        }
    }
}

/// What to play.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// What the clients do.
    #[arg(long, value_enum, default_value = "acknowledged")]
    pub workload: Workload,
    /// What is done to the server, if there is one.
    #[arg(long, value_enum, default_value = "none")]
    pub fault: Fault,
    /// How many servers; several form a cluster.
    #[arg(long, default_value_t = 1)]
    pub nodes: usize,
    /// What is done to a cluster; of several each strike is one, by chance.
    #[arg(
        long = "nemesis",
        value_enum,
        value_delimiter = ',',
        default_value = "none"
    )]
    pub nemeses: Vec<Nemesis>,
    /// Seconds of a cluster's load with strikes.
    #[arg(long, default_value_t = 60)]
    pub time: u64,
    /// Strikes of a run on a cluster, in place of a time.
    #[arg(long)]
    pub strikes: Option<u64>,
    /// Commands that `commands` on a cluster sends before it ends; the strikes are spread over them.
    #[arg(long)]
    pub commands: Option<u64>,
    /// What the foreign keys of `references` may do when their parents are deleted; those that the
    /// server does not have refuse instead.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "restrict,no-action,cascade,set-null,set-default"
    )]
    pub actions: Vec<OnDelete>,
    /// How the nodes of a cluster reach each other.
    #[arg(long, value_enum, default_value = "proxies")]
    pub network: Network,
    /// Valid runs to reach; each has one fault.
    #[arg(long, default_value_t = 1)]
    pub runs: u64,
    /// From this number every random decision follows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Longest load of one run in seconds.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Concurrent clients; the workload's own number if not given.
    #[arg(long)]
    pub clients: Option<u32>,
    /// Runs on one data folder before a new one is begun.
    #[arg(long, default_value_t = 10)]
    pub same_folder: u64,
    /// Where Freehold keeps its tables.
    #[arg(long, value_enum, default_value = "lsm")]
    pub table_store: Store,
    /// Which program is under test.
    #[arg(long, value_enum, default_value = "freehold")]
    pub victim: Kind,
    /// Its executable (PostgreSQL: the folder of them); Freehold is built first if not given.
    #[arg(long)]
    pub program: Option<PathBuf>,
    /// One more flag of the server (PostgreSQL: one more `name=value`).
    #[arg(long = "victim-option", allow_hyphen_values = true)]
    pub victim_options: Vec<String>,
    /// Plays at READ COMMITTED what claims more: the checkers must complain.
    #[arg(long)]
    pub weaken: bool,
    /// Folder for histories, server logs and the data of runs with findings.
    #[arg(long, default_value = "target/jepsen")]
    pub out: PathBuf,
    /// Folder for the data of running servers.
    #[arg(long)]
    pub scratch: Option<PathBuf>,
}

impl Options {
    /// What is done to the server or the nodes, in words.
    pub fn fault_words(&self) -> String {
        if self.nodes == 1 {
            return self.fault.word().to_owned();
        }
        let words: Vec<&str> = self.nemeses.iter().map(|nemesis| nemesis.word()).collect();
        words.join(",")
    }

    /// The flags of that.
    fn faults(&self) -> String {
        let words = self.fault_words();
        if self.nodes == 1 {
            return format!("--fault {words} --seconds {}", self.seconds);
        }
        let length = match self.strikes {
            Some(strikes) => format!("--strikes {strikes}"),
            None => format!("--time {}", self.time),
        };
        let commands = match self.commands {
            Some(commands) => format!(" --commands {commands}"),
            None => String::new(),
        };
        let (nodes, network) = (self.nodes, self.network.word());
        format!("--nodes {nodes} --nemesis {words} {length}{commands} --network {network}")
    }

    /// The line that plays `runs` runs from `seed` again.
    pub fn line(&self, seed: u64, runs: u64) -> String {
        let mut line = format!(
            "cargo run --release -p jepsen -- --workload {} {} --runs {runs} --seed {seed} \
             --table-store {}",
            self.workload.word(),
            self.faults(),
            self.table_store.word(),
        );
        if let Some(clients) = self.clients {
            line += &format!(" --clients {clients}");
        }
        if self.workload == Workload::References {
            let words: Vec<&str> = self.actions.iter().map(|action| action.flag()).collect();
            line += &format!(" --actions {}", words.join(","));
        }
        if self.victim == Kind::Postgres {
            line += " --victim postgres";
        }
        for option in &self.victim_options {
            line += &format!(" --victim-option {option}");
        }
        if self.weaken {
            line += " --weaken";
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_run_is_read_back_as_the_same_run() {
        let asked = "jepsen --workload feed --fault power --runs 3 --seed 9 --clients 7 --weaken \
                     --table-store sled --seconds 4 --victim-option --checkpoint-timeout=1s";
        let cli = Cli::try_parse_from(asked.split_whitespace()).expect("these flags exist");
        let line = cli.options.line(11, 2);
        let again = line.split_whitespace().skip(5);
        let again = Cli::try_parse_from(["jepsen"].into_iter().chain(again.skip(1)))
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(again.options.line(11, 2), line);
        assert_eq!(again.options.seed, 11);
        assert_eq!(again.options.clients, Some(7));
    }

    #[test]
    fn the_line_of_a_cluster_is_read_back_as_the_same_run() {
        let asked = "jepsen --nodes 3 --workload references --nemesis kill-leader,pause --strikes 30 \
                     --commands 900 --network namespaces --seed 9 --actions cascade,set-null";
        let cli = Cli::try_parse_from(asked.split_whitespace()).expect("these flags exist");
        let line = cli.options.line(11, 1);
        let again = line.split_whitespace().skip(6);
        let again = Cli::try_parse_from(["jepsen"].into_iter().chain(again))
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(again.options.line(11, 1), line);
        assert_eq!(again.options.nemeses, [Nemesis::KillLeader, Nemesis::Pause]);
        assert_eq!(again.options.strikes, Some(30));
        assert_eq!(again.options.commands, Some(900));
        assert_eq!(
            again.options.actions,
            [OnDelete::Cascade, OnDelete::SetNull]
        );
    }
}
