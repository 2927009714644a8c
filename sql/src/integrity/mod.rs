//! Foreign keys whose two tables have different owners. `docs/integrity.md` is the protocol, with its
//! argument; here is what each side does for it. What the sides tell each other are rows of their
//! outboxes (`crate::outbox`), of which there are copies where the other group is; what each keeps for
//! itself are rows of system trees.
//!
//! ```text
//! P, whose table is referenced                  C, whose table references it
//!   outbox(C)                                     outbox(P)
//!     10 intent chunk   an ask      ─ copy ─>       11 intent      an answer
//!     12 intent         its decision                13 constraint  a wish
//!     14                floor       <─ copy ─       14             floor
//!   INTENTS  what it is about to remove           FENCED    keys that nothing may begin to reference
//! ```
//! `rows.rs` has the bytes. P: `ask.rs` is a transaction that removes keys, `register.rs` what its home does
//! without one. C: `reference.rs` is a transaction that references, `answer.rs` what its home does without
//! one, with `prepare.rs` and `waiting.rs`, `wish.rs` the DDL. `open.rs` is what a home has in memory, `look.rs` how each side sees the
//! other: at the node's cut, never beyond it, `low_water.rs` where a look begins. The sessions without a client are `session::Courier`s.

mod answer;
mod ask;
mod look;
mod low_water;
mod open;
mod prepare;
mod reference;
mod register;
mod rows;
mod view;
mod waiting;
mod wish;

pub(crate) use answer::answer;
pub(crate) use ask::{Gone, Intents, IntentsMark, ask, ask_all};
pub(crate) use look::{refers, told_of_answer};
pub(crate) use open::{Ending, Open};
pub(crate) use reference::{References, check_reference};
pub(crate) use register::{register, settle};
pub(crate) use view::relations;
pub(crate) use wish::{Validating, Wanted, Wished, begin};
