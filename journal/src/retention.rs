//! Retention by size: which records must go so that the segments fit a budget.

use crate::index::Group;
use crate::journal::Journal;
use crate::{GroupId, Index};

impl Journal {
    /// For each group that has records in the oldest segments, those beyond `bytes_max`: the
    /// first index that may stay. To be given to [`Journal::release`], which deletes only what
    /// nobody else needs.
    pub fn beyond(&self, bytes_max: u64) -> Vec<(GroupId, Index)> {
        let shared = self.shared();
        let state = shared.state.lock();
        let fit = (bytes_max / shared.options.segment_bytes).max(1) as usize;
        let excess = state.segments.len().saturating_sub(fit);
        let Some(last_gone) = excess
            .checked_sub(1)
            .and_then(|n| state.segments.keys().nth(n))
        else {
            return Vec::new();
        };
        let below = |group: &Group| {
            let gone = group
                .runs
                .iter()
                .rev()
                .find(|run| run.segment <= *last_gone)?;
            Some(Index(gone.last.0 + 1))
        };
        state
            .groups
            .iter()
            .filter_map(|(id, group)| Some((*id, below(group)?)))
            .collect()
    }
}
