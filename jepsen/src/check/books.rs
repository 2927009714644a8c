//! The books of the bank: what every snapshot of the accounts must add up to, and which transfers
//! must stand in it.

use std::collections::BTreeMap;

use crate::finding::{Finding, Kind};

/// One transfer of money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Account that pays.
    pub from: i64,
    /// Account that gets.
    pub to: i64,
    /// How much, above 0.
    pub amount: i64,
}

/// How a transfer ended, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It must be in the books.
    Acknowledged,
    /// It must not.
    Failed,
    /// It may.
    Unknown,
}

/// What is known of all transfers.
#[derive(Debug)]
pub struct Books {
    initial: i64,
    accounts: i64,
    transfers: BTreeMap<i64, (Transfer, End)>,
}

/// The accounts and the transfers that one snapshot shows.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Balances by account.
    pub balances: BTreeMap<i64, i64>,
    /// Transfers as read, by number; read twice is noted in `doubled`.
    pub transfers: BTreeMap<i64, Transfer>,
    /// Numbers that were read twice.
    pub doubled: Vec<i64>,
}

impl Books {
    /// Books of `accounts` accounts with `initial` each.
    pub fn new(accounts: i64, initial: i64) -> Books {
        Books {
            initial,
            accounts,
            transfers: BTreeMap::new(),
        }
    }

    /// What all accounts together hold, always.
    pub fn total(&self) -> i64 {
        self.initial * self.accounts
    }

    /// Takes note of how a transfer ended.
    pub fn enter(&mut self, number: i64, transfer: Transfer, end: End) {
        self.transfers.insert(number, (transfer, end));
    }

    /// Numbers of the transfers that ended so.
    pub fn ended(&self, end: End) -> impl Iterator<Item = i64> {
        let all = self.transfers.iter();
        all.filter(move |(_, (_, is))| *is == end)
            .map(|(number, _)| *number)
    }

    /// Judges the balances of a snapshot alone; `how` says how they were read.
    pub fn judge_balances(&self, balances: &BTreeMap<i64, i64>, how: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let total: i64 = balances.values().sum();
        if total != self.total() || balances.len() as i64 != self.accounts {
            let what = format!(
                "{how}: {} accounts hold {total} and not {}: {balances:?}",
                balances.len(),
                self.total()
            );
            findings.push(Finding::new(Kind::Anomaly, what));
        }
        for (account, balance) in balances.iter().filter(|(_, balance)| **balance < 0) {
            let what = format!("{how}: account {account} holds {balance}, against its check");
            findings.push(Finding::new(Kind::Anomaly, what));
        }
        findings
    }

    /// Judges that within one snapshot the balances are what the transfers made of them.
    pub fn judge_snapshot(&self, snapshot: &Snapshot, how: &str) -> Vec<Finding> {
        let mut findings = self.judge_balances(&snapshot.balances, how);
        let mut derived: BTreeMap<i64, i64> = (0..self.accounts)
            .map(|account| (account, self.initial))
            .collect();
        for transfer in snapshot.transfers.values() {
            *derived.entry(transfer.from).or_default() -= transfer.amount;
            *derived.entry(transfer.to).or_default() += transfer.amount;
        }
        for (account, should) in &derived {
            let is = snapshot.balances.get(account);
            if is != Some(should) {
                let what = format!("{how}: account {account} holds {is:?}, its transfers {should}");
                findings.push(Finding::new(Kind::Anomaly, what));
            }
        }
        for number in &snapshot.doubled {
            let what = format!("{how}: transfer {number} is there twice");
            findings.push(Finding::new(Kind::Anomaly, what));
        }
        findings
    }

    /// Judges a quiet database, and takes what it shows as the end of unknown transfers.
    pub fn settle(&mut self, snapshot: &Snapshot) -> Vec<Finding> {
        let mut findings = self.judge_snapshot(snapshot, "after the load");
        for (number, (transfer, end)) in &mut self.transfers {
            let there = snapshot.transfers.get(number);
            match (*end, there) {
                (End::Acknowledged, None) => {
                    let what = format!("acknowledged transfer {number} is gone");
                    findings.push(Finding::new(Kind::Lost, what));
                }
                (End::Failed, Some(_)) => {
                    let what = format!("failed transfer {number} is there");
                    findings.push(Finding::new(Kind::Anomaly, what));
                }
                (_, Some(read)) if read != transfer => {
                    let what = format!("transfer {number} is {read:?} and not {transfer:?}");
                    findings.push(Finding::new(Kind::Anomaly, what));
                }
                _ => {}
            }
            *end = if there.is_some() {
                End::Acknowledged
            } else {
                End::Failed
            };
        }
        for number in snapshot
            .transfers
            .keys()
            .filter(|n| !self.transfers.contains_key(n))
        {
            let what = format!("transfer {number} is there, which nobody has asked for");
            findings.push(Finding::new(Kind::Anomaly, what));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(from: i64, to: i64, amount: i64) -> Transfer {
        Transfer { from, to, amount }
    }

    /// Two accounts of 100; transfer 1 acknowledged, 2 failed, 3 unknown.
    fn books() -> Books {
        let mut books = Books::new(2, 100);
        books.enter(1, transfer(0, 1, 30), End::Acknowledged);
        books.enter(2, transfer(0, 1, 50), End::Failed);
        books.enter(3, transfer(1, 0, 5), End::Unknown);
        books
    }

    fn snapshot(balances: [i64; 2], numbers: &[i64]) -> Snapshot {
        let books = books();
        let transfers = numbers
            .iter()
            .map(|number| (*number, books.transfers[number].0.clone()))
            .collect();
        let balances = balances
            .into_iter()
            .enumerate()
            .map(|(a, b)| (a as i64, b))
            .collect();
        Snapshot {
            balances,
            transfers,
            doubled: Vec::new(),
        }
    }

    fn kinds(snapshot: &Snapshot) -> Vec<Kind> {
        books()
            .settle(snapshot)
            .into_iter()
            .map(|finding| finding.kind)
            .collect()
    }

    #[test]
    fn what_is_as_told_gives_no_finding() {
        assert_eq!(kinds(&snapshot([70, 130], &[1])), vec![]);
        assert_eq!(kinds(&snapshot([75, 125], &[1, 3])), vec![]);
    }

    #[test]
    fn a_lost_transfer_is_lost_even_if_the_total_is_right() {
        assert_eq!(kinds(&snapshot([100, 100], &[])), vec![Kind::Lost]);
    }

    #[test]
    fn a_failed_transfer_is_found() {
        assert_eq!(kinds(&snapshot([20, 180], &[1, 2])), vec![Kind::Anomaly]);
    }

    #[test]
    fn half_a_transfer_breaks_the_total() {
        let found = books().judge_balances(&snapshot([70, 100], &[]).balances, "a reader");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_lost_update_shows_against_the_transfers() {
        assert_eq!(
            kinds(&snapshot([100, 100], &[1])),
            vec![Kind::Anomaly, Kind::Anomaly]
        );
    }

    #[test]
    fn an_overdrawn_account_is_found() {
        let found = books().judge_balances(&snapshot([-5, 205], &[]).balances, "a reader");
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn an_unknown_transfer_does_not_come_later() {
        let mut books = books();
        assert_eq!(books.settle(&snapshot([70, 130], &[1])), vec![]);
        assert_eq!(books.settle(&snapshot([75, 125], &[1, 3])).len(), 1);
    }
}
