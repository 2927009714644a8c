//! Random workloads with restarts in between, against the model.

use journal::MemoryDisk;
use proptest::prelude::*;

use crate::tools::{Acknowledged, GROUPS, History, Model, open, workload};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_workload_with_restarts(seed in any::<u64>(), every in 1_usize..40) {
        let disk = MemoryDisk::new();
        let mut journal = open(&disk).expect("open");
        let mut history = History::default();
        for (at, step) in workload(seed, 150).iter().enumerate() {
            history.step(&journal, step).expect("appended");
            if at.is_multiple_of(every) {
                let states = |journal: &journal::Journal| -> Vec<_> {
                    let groups = (1..=GROUPS).map(journal::GroupId);
                    groups
                        .map(|g| (journal.state(g), journal.terms(g)))
                        .map(|(state, terms)| (format!("{state:?}"), terms))
                        .collect()
                };
                let before = states(&journal);
                let models: Vec<_> = (1..=GROUPS).map(|g| Model::of(&journal, g)).collect();
                journal.close();
                journal = open(&disk).expect("open again");
                prop_assert_eq!(&states(&journal), &before);
                let again: Vec<_> = (1..=GROUPS).map(|g| Model::of(&journal, g)).collect();
                prop_assert_eq!(again, models);
            }
        }
        let verdict = history.check(&journal, Acknowledged::Kept);
        prop_assert!(verdict.is_ok(), "{:?}", verdict);
    }
}
