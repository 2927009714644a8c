//! The rules of the protocol, each with a name and a switch: a model without one of them must be
//! found at fault, or the rule, or the model, is idle.

/// A rule of `docs/integrity.md` that can be taken out of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Rule {
    /// A child enforces its constraint only once its cut shows the parent's registration.
    RegisteredFirst,
    /// COMMIT looks again whether anybody has registered since its statements asked.
    RegistrationsLookedAtAgain,
    /// A registration names what is decided already to the newcomer, who fences it before it enforces.
    NewcomerFencesDecided,
    /// The same for what a yes has promised to a parent, though nothing is decided.
    NewcomerFencesPromised,
    /// The entry that makes a constraint valid depends on the parents of the rows that it found.
    ValidationDepends,
    /// The entry with which a parent asks no more depends on the drop that it has seen.
    ForgettingDepends,
    /// A constraint is not dropped while what is decided because of it is under way.
    DropAwaitsDecisions,
    /// A home acts on another group only at a cut that is not below what its group has acted on.
    Floor,
    /// What rests on an ask that was seen raises the floor, not only what ends it.
    WorkRaisesTheFloor,
    /// A fence is made from the ask in the cut, never from a message.
    MessagesCarryNothing,
    /// References are checked again when their entry gets its position: fences and floor.
    CheckedAtPosition,
    /// A check reads the cut of the home, not what the parent's leader has pending.
    ChecksReadTheCut,
    /// The entry of a referencing row depends on the version of the parent that it saw.
    ReferencesDepend,
    /// A home reads its own newest state beside followed tables only when the cut has its own deps.
    HomeAwaitsItsDeps,
    /// An answer belongs to one intent, by name, and not to a key.
    AnswersNameTheIntent,
    /// An answer counts once it is committed.
    AnswersAreCommitted,
    /// Nothing is decided before all have said yes.
    AllYes,
    /// Prepared changes wait for the decision.
    PreparedWaits,
    /// What a prepared change will reference counts as referenced.
    PreparedCounts,
    /// The key goes after the prepared changes of all children are committed.
    ChildrenFirst,
    /// The entry that removes the key depends on each answer and on what was committed for it.
    RemovalDepends,
    /// What is decided is never taken back.
    ForwardOnly,
    /// A new leader cancels the intents of transactions that are gone.
    OrphansAreCancelled,
    /// A new leader holds the locks of what is prepared and decided before it serves.
    LocksAreRebuilt,
}

impl Rule {
    /// All rules.
    pub const ALL: [Rule; 24] = [
        Rule::RegisteredFirst,
        Rule::RegistrationsLookedAtAgain,
        Rule::NewcomerFencesDecided,
        Rule::NewcomerFencesPromised,
        Rule::ValidationDepends,
        Rule::ForgettingDepends,
        Rule::DropAwaitsDecisions,
        Rule::Floor,
        Rule::WorkRaisesTheFloor,
        Rule::MessagesCarryNothing,
        Rule::CheckedAtPosition,
        Rule::ChecksReadTheCut,
        Rule::ReferencesDepend,
        Rule::HomeAwaitsItsDeps,
        Rule::AnswersNameTheIntent,
        Rule::AnswersAreCommitted,
        Rule::AllYes,
        Rule::PreparedWaits,
        Rule::PreparedCounts,
        Rule::ChildrenFirst,
        Rule::RemovalDepends,
        Rule::ForwardOnly,
        Rule::OrphansAreCancelled,
        Rule::LocksAreRebuilt,
    ];
}

/// The rules that are in force.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    without: Option<Rule>,
}

impl Rules {
    /// The protocol as it is.
    pub const fn all() -> Rules {
        Rules { without: None }
    }

    /// The protocol without one of its rules.
    pub const fn without(rule: Rule) -> Rules {
        Rules {
            without: Some(rule),
        }
    }

    /// Is a rule in force?
    pub fn has(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}
