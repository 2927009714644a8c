//! The messages since the last ReadyForQuery, kept until their answer leaves: as long as the client
//! has seen nothing, they can be run on another node instead.

use crate::input::{Frame, HEADER_BYTES};

/// A longer turn is not kept, and stays where it is.
pub(crate) const KEPT_BYTES_MAX: usize = 1 << 20;

/// What is kept of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// Nothing: there is no other node.
    Nothing,
    /// How many messages there were; their bytes are kept elsewhere.
    Numbers,
    /// The messages.
    Frames,
}

/// One turn.
#[derive(Debug)]
pub(crate) struct Turn {
    keeping: Keeping,
    frames: Vec<Frame>,
    bytes: usize,
    count: u64,
    /// The first messages, whose answers have left.
    answered: u64,
    /// A message was read that does more than prepare.
    executes: bool,
    /// Messages that run something, and whether one of them was a Query.
    runs: u64,
    simple: bool,
    /// It can't go elsewhere any more.
    stays: bool,
    /// Where its answer begins in the output.
    mark: usize,
}

/// Messages that leave nothing but statements and portals, and can be repeated: Parse, Bind,
/// Describe, Close, Flush.
pub(crate) fn prepares(message_type: u8) -> bool {
    matches!(message_type, b'P' | b'B' | b'D' | b'C' | b'H')
}

impl Turn {
    pub fn new(keeping: Keeping) -> Turn {
        Turn {
            keeping,
            frames: Vec::new(),
            bytes: 0,
            count: 0,
            answered: 0,
            executes: false,
            runs: 0,
            simple: false,
            stays: keeping == Keeping::Nothing,
            mark: 0,
        }
    }

    /// From the next turn on, this is kept.
    pub fn keep(&mut self, keeping: Keeping) {
        self.keeping = keeping;
    }

    /// The first messages were answered before.
    pub fn answered_before(&mut self, messages: u64) {
        self.answered = messages;
    }

    /// A message was read.
    pub fn take(&mut self, frame: &Frame) {
        self.count += 1;
        self.executes |= !prepares(frame.message_type);
        self.runs += u64::from(matches!(frame.message_type, b'Q' | b'E' | b'F'));
        self.simple |= frame.message_type == b'Q';
        if self.stays {
            return;
        }
        self.bytes += HEADER_BYTES + frame.body.len();
        if self.bytes > KEPT_BYTES_MAX {
            self.stay();
        } else if self.keeping == Keeping::Frames {
            self.frames.push(Frame {
                message_type: frame.message_type,
                body: frame.body.clone(),
            });
        }
    }

    /// From here on it can't go elsewhere.
    pub fn stay(&mut self) {
        self.stays = true;
        self.frames.clear();
    }

    /// All of the output leaves, `len` bytes.
    pub fn leaves(&mut self, len: usize) {
        if len > self.mark && !self.stays {
            if self.executes {
                self.stay();
            } else {
                self.answered = self.count;
            }
        }
    }

    /// The output is empty again.
    pub fn left(&mut self) {
        self.mark = 0;
    }

    /// The next turn begins; its answer will begin there.
    pub fn begin(&mut self, mark: usize) {
        self.frames.clear();
        self.bytes = 0;
        self.count = 0;
        self.answered = 0;
        self.executes = false;
        self.runs = 0;
        self.simple = false;
        self.stays = self.keeping == Keeping::Nothing;
        self.mark = mark;
    }

    /// Where its answer begins in the output.
    pub fn mark(&self) -> usize {
        self.mark
    }

    /// Messages read.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Ends the turn here, to be run elsewhere: its messages, the number of those whose answers have
    /// left, and where the rest of its answer begins.
    pub fn give_up(&mut self) -> Option<(Vec<Frame>, u64, usize)> {
        if self.stays {
            return None;
        }
        let frames = std::mem::take(&mut self.frames);
        let given = (frames, self.answered, self.mark);
        self.begin(self.mark);
        Some(given)
    }

    /// May it still go elsewhere?
    pub fn may_go(&self) -> bool {
        !self.stays
    }

    /// Messages that run something, so far; and is that a Query, with which a turn ends?
    pub fn runs(&self) -> (u64, bool) {
        (self.runs, self.simple)
    }
}
