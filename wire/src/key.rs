//! The key that a client shows, on a connection of its own, to cancel a running statement.

use std::fmt;

/// A process number and its secret, as sent in BackendKeyData.
#[derive(Clone, Copy)]
pub struct Key {
    pid: i32,
    secret: i32,
}

impl Key {
    /// A key with a fresh secret from the operating system's seeded generator.
    pub fn random(pid: i32) -> Key {
        Key {
            pid,
            secret: rand::random(),
        }
    }

    /// The number that `pg_backend_pid()` tells.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The secret, for BackendKeyData only.
    pub fn secret(&self) -> i32 {
        self.secret
    }

    /// True if a CancelRequest's secret is this key's. Takes the same time for every wrong one.
    pub fn admits(&self, pid: i32, secret: i32) -> bool {
        let mine = self.secret.to_be_bytes();
        let theirs = secret.to_be_bytes();
        let unlike = mine
            .iter()
            .zip(&theirs)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        (self.pid == pid) & (std::hint::black_box(unlike) == 0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_secret_fits() {
        let key = Key::random(7);
        assert!(key.admits(7, key.secret()));
        assert!(!key.admits(8, key.secret()));
        for bit in 0..32 {
            assert!(!key.admits(7, key.secret() ^ (1 << bit)));
        }
        assert!(!format!("{key:?}").contains(&key.secret().to_string()));
    }
}
