//! `freehold.token`: the positions that a session must see, one per group that it may know of.
//!
//! Text form: `group:position` pairs in ascending order, comma separated, e.g. `3:5A1/2C00`.

use std::collections::BTreeMap;

use storage::{GroupId, Position};

use crate::{Error, Result, state};

/// Positions by group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token(BTreeMap<GroupId, Position>);

/// Groups that one token may name.
const GROUPS_MAX: usize = 1_024;

impl Token {
    /// Reads the text form; empty text is the empty token.
    ///
    /// # Errors
    /// 22023.
    pub fn parse(text: &str) -> Result<Token> {
        let mut token = Token::default();
        let invalid = || {
            Error::new(
                state::INVALID_PARAMETER_VALUE,
                format!("invalid value for parameter \"freehold.token\": \"{text}\""),
            )
        };
        for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (group, position) = pair.split_once(':').ok_or_else(invalid)?;
            let group = group.parse().map(GroupId).map_err(|_| invalid())?;
            let position = Position::parse(position).ok_or_else(invalid)?;
            token.add(group, position);
            if token.0.len() > GROUPS_MAX {
                return Err(invalid());
            }
        }
        Ok(token)
    }

    /// Must see the group up to there, too. True if that is new.
    pub fn add(&mut self, group: GroupId, position: Position) -> bool {
        let known = self.0.entry(group).or_insert(Position::ZERO);
        let grows = position > *known;
        *known = position.max(*known);
        grows
    }

    /// The positions by group.
    pub fn iter(&self) -> impl Iterator<Item = (GroupId, Position)> {
        self.0.iter().map(|(group, position)| (*group, *position))
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (group, position)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{group}:{position}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let mut token = Token::parse(" 3:1/2, 1:0/FF,").unwrap();
        assert_eq!(token.to_string(), "1:0/FF,3:1/2");
        assert!(!token.add(GroupId(3), Position(1)));
        assert!(token.add(GroupId(3), Position(u64::from(u32::MAX) + 9)));
        for bad in ["x", "1", "1:", "1:2", ":1/2", "-1:1/2", "1:1/2:3"] {
            assert!(Token::parse(bad).is_err(), "{bad}");
        }
    }
}
