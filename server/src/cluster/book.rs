//! Where the other nodes are. The directory says it, and each of them says it at its handshake;
//! a file beside the identity keeps it for a start at which the directory can't be read before
//! the others were reached.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use parking_lot::Mutex;

/// The file in the data folder.
const FILE: &str = "peers";

/// Addresses by node.
#[derive(Default)]
pub struct Book {
    known: Mutex<BTreeMap<u32, String>>,
    written: Mutex<BTreeMap<u32, String>>,
}

impl Book {
    /// As the file of a data folder has it. A file that can't be read is as good as none.
    pub fn of(data: &Path) -> Book {
        let text = fs::read(data.join(FILE)).unwrap_or_default();
        let known: BTreeMap<u32, String> = serde_json::from_slice(&text).unwrap_or_default();
        Book {
            known: Mutex::new(known.clone()),
            written: Mutex::new(known),
        }
    }

    /// A node has said where it is.
    pub fn learn(&self, node: u32, address: &str) {
        let mut known = self.known.lock();
        if known.get(&node).is_none_or(|at| at != address) {
            known.insert(node, address.to_owned());
        }
    }

    /// Where a node said that it is.
    pub fn find(&self, node: u32) -> Option<String> {
        self.known.lock().get(&node).cloned()
    }

    /// Takes over what the directory says of nodes that have said nothing themselves, forgets
    /// those that it does not name, and writes the file if anything is new.
    pub fn keep(&self, data: &Path, nodes: &BTreeMap<u32, String>) -> std::io::Result<()> {
        let mut known = self.known.lock();
        known.retain(|node, _| nodes.contains_key(node));
        for (node, address) in nodes {
            known.entry(*node).or_insert_with(|| address.clone());
        }
        let now = known.clone();
        drop(known);
        let mut written = self.written.lock();
        if *written == now {
            return Ok(());
        }
        let aside = data.join(format!("{FILE}.new"));
        fs::write(&aside, serde_json::to_vec_pretty(&now)?)?;
        fs::rename(&aside, data.join(FILE))?;
        *written = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temporary::Temporary;

    #[test]
    fn addresses_outlive_the_process() {
        let folder = Temporary::make("book").unwrap();
        let book = Book::of(folder.path());
        book.learn(2, "moved:1");
        book.learn(9, "gone:1");
        let nodes = [(2, "n2:1".to_owned()), (3, "n3:1".to_owned())].into();
        book.keep(folder.path(), &nodes).unwrap();
        let again = Book::of(folder.path());
        assert_eq!(again.find(2).as_deref(), Some("moved:1"), "its own word");
        assert_eq!(again.find(3).as_deref(), Some("n3:1"));
        assert_eq!(again.find(9), None);
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Book::of(folder.path()).find(2), None);
    }
}
