//! What nodes ask each other besides Raft's requests, as JSON: few, small, and open to fields that
//! a later version adds. The first byte of a request tells the kinds apart.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::identity::Member;
use super::leads::Says;
use crate::follow::{Place, Said};

/// The longest request or answer of this kind.
pub const BYTES_MAX: usize = 1 << 20;
/// First byte of the requests of this kind.
pub const FIRST_BYTE: u8 = b'{';

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// Are you there, and who are you?
    Ping,
    /// Ping me, what I would say has changed.
    PingMe,
    /// Which groups do you lead, and who votes there?
    Leads,
    /// Begin a cluster with this empty node.
    Init,
    /// Take me in, or note where I am now.
    Join {
        /// Of the node's folder.
        incarnation: Uuid,
        /// Where nodes reach it.
        address: String,
        /// Where clients reach it.
        client_address: String,
        /// Where it stands.
        #[serde(default)]
        locality: std::collections::BTreeMap<String, String>,
    },
    /// Other wishes for a group's replicas. For who leads the directory.
    Alter {
        /// The group.
        group: u32,
        /// How many voters.
        replicas: Option<u32>,
        /// In which regions.
        regions: Option<Vec<String>>,
    },
    /// Put nodes that answer in place of voters that don't. For who leads the directory.
    Claim {
        /// The group.
        group: u32,
        /// How many.
        count: u32,
    },
    /// Up to which position is everything applied that was acknowledged before this request? For
    /// who leads the group.
    Barrier {
        /// The group.
        group: u32,
    },
    /// May a transaction that began at the node still commit?
    Undecided {
        /// Its id.
        id: u64,
    },
    /// An entry takes away what roles could read: give no rows of the group before you have it.
    TakenAway {
        /// The group.
        group: u32,
        /// The entry's position.
        position: u64,
        /// Which node; another one hands it on.
        node: u32,
    },
    /// Which copies of others' groups have you?
    Copies {
        /// Of groups behind this one.
        after: Option<u32>,
    },
    /// How far have you erased what was removed in your copies of groups?
    Erased {
        /// The groups.
        groups: Vec<u32>,
    },
    /// What have you left of a row?
    Traces {
        /// The group.
        group: u32,
        /// The table's tree.
        tree: u32,
        /// The row's key.
        key: Vec<u8>,
    },
    /// How many bytes of entries lie behind these places?
    Lags {
        /// The places.
        of: Vec<Place>,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// To a ping.
    Here {
        /// The cluster, if the node is in one.
        member: Option<Member>,
        /// It gives away what it leads.
        #[serde(default)]
        draining: bool,
        /// Some of its sessions LISTEN.
        #[serde(default)]
        listens: bool,
        /// The version of what it says that it leads.
        #[serde(default)]
        leads: u64,
        /// Its clock, in microseconds since 1970; 0: it does not say.
        #[serde(default)]
        clock: u64,
    },
    /// These.
    Leads {
        /// The version of what is said.
        version: u64,
        /// All that it leads.
        says: Says,
    },
    /// Taken in: the cluster and the number in it.
    Joined {
        /// Both.
        member: Member,
    },
    /// It is written, or there is nothing to write.
    Done {
        /// The directory's position with it.
        position: u64,
        /// What is to be said of it.
        #[serde(default)]
        remark: Option<Remark>,
    },
    /// Who asks was given up: other nodes have what it had.
    Gone,
    /// The node that is meant has not been heard here for longer than it serves without the others.
    Silent,
    /// Whether the transaction may.
    Undecided {
        /// It is open, or what it wrote is not decided.
        undecided: bool,
    },
    /// The barrier is passed.
    Passed {
        /// Everything up to here was applied.
        position: u64,
    },
    /// These.
    Copies {
        /// By group.
        copies: Vec<Said>,
        /// There are others behind the last.
        more: bool,
    },
    /// What was removed up to there is gone.
    Erased {
        /// By group, in order; `None`: there is no copy.
        upto: Vec<Option<u64>>,
    },
    /// This.
    Traces {
        /// Images in the journal that name it.
        images: u64,
        /// Of the table, its old versions and the ledger so many have it.
        rows: u32,
    },
    /// So many.
    Lags {
        /// For each place, in order; `None`: not known here.
        bytes: Vec<Option<u64>>,
    },
    /// Ask the node at this address.
    Elsewhere {
        /// Its address.
        address: String,
    },
    /// It can't be done now: ask again.
    NotNow {
        /// Why, for the log.
        why: String,
    },
    /// It will never be done.
    Refused {
        /// Why, for who asked.
        why: String,
    },
}

/// What the directory's leader says of a wish, as who has it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// How bad it is.
    pub weight: Weight,
    /// What.
    pub message: String,
    /// Why; may be empty.
    #[serde(default)]
    pub detail: String,
    /// What can be done; may be empty.
    #[serde(default)]
    pub hint: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Nothing is wrong.
    Notice,
    /// It is written, and does not come about now.
    Warning,
    /// Nothing was done.
    Error,
}

impl Remark {
    /// All of it.
    pub fn new(weight: Weight, message: String, detail: String, hint: &str) -> Remark {
        let hint = hint.to_owned();
        Remark {
            weight,
            message,
            detail,
            hint,
        }
    }
}

impl Ask {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        json(self)
    }

    /// Reads one; `None`: it is none.
    pub fn decode(bytes: &[u8]) -> Option<Ask> {
        read(bytes)
    }
}

impl Told {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        json(self)
    }

    /// Reads one; `None`: it is none, or one of a later version.
    pub fn decode(bytes: &[u8]) -> Option<Told> {
        read(bytes)
    }
}

fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value)
        .expect("texts and numbers only")
        .into()
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    (bytes.len() <= BYTES_MAX)
        .then(|| serde_json::from_slice(bytes).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let asks = [
            Ask::Ping,
            Ask::PingMe,
            Ask::Init,
            Ask::Barrier { group: 7 },
            Ask::Undecided { id: 1 << 60 },
            Ask::Copies { after: Some(3) },
            Ask::Lags {
                of: vec![Place { group: 7, index: 9 }],
            },
            Ask::Join {
                incarnation: Uuid::from_u128(1),
                address: "a:1".into(),
                client_address: "a:2".into(),
                locality: [("zone".to_owned(), "a".to_owned())].into(),
            },
        ];
        for ask in asks {
            let bytes = ask.encode();
            assert_eq!(bytes[0], FIRST_BYTE);
            assert_eq!(Ask::decode(&bytes), Some(ask));
        }
        let led = super::super::leads::Led {
            group: 4,
            term: 5,
            voters: vec![1, 2],
        };
        let told = Told::Leads {
            version: u64::MAX,
            says: vec![led],
        };
        assert_eq!(Told::decode(&told.encode()), Some(told));
        let told = Told::Copies {
            copies: vec![Said::default()],
            more: true,
        };
        assert_eq!(Told::decode(&told.encode()), Some(told));
        let later = br#"{"ask":"ping","added_later":1}"#;
        assert_eq!(Ask::decode(later), Some(Ask::Ping));
        assert_eq!(Ask::decode(b"{\"ask\":\"fly\"}"), None);
        assert_eq!(Ask::decode(b""), None);
        assert_eq!(Told::decode(b"\xff"), None);
    }
}
