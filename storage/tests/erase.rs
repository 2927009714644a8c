//! What is to be erased of a group, as an eraser reads it.

mod harness;

use harness::*;
use storage::Position;

#[test]
fn a_ledger_is_read_in_parts_that_fit_into_memory() {
    const ROWS: usize = 9;
    let node = Node::new();
    let key = |n: usize| format!("{n}{}", "x".repeat(1000));
    for n in 0..ROWS {
        node.put(&key(n), "1");
        let remove = node.begin().remove(&key(n));
        remove.commit(&node.group).expect("no conflict");
    }
    let parts = |bytes_max: usize| -> Vec<usize> {
        let (mut parts, mut from) = (Vec::new(), None);
        loop {
            let ledger = node
                .group
                .ledger(Position::ZERO, Position::MAX, from.as_ref(), bytes_max);
            let ledger = ledger.expect("readable");
            parts.push(ledger.bytes());
            match ledger.next() {
                Some(next) => from = Some(next.clone()),
                None => return parts,
            }
        }
    };
    let all = parts(usize::MAX);
    let [whole] = all[..] else {
        panic!("{} parts of what fits", all.len());
    };
    let row = whole / ROWS;
    assert!(row > 1000);
    assert_eq!(parts(2 * row + 1), [3 * row; 3]);
    assert_eq!(parts(1), [row; ROWS], "each goes on");
}
