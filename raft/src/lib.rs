//! Who may write: a Raft group per owner over the journal.
