//! Notices: what a client is told beside its answers, as far as it wants it (`client_min_messages`).

use super::{Output, Session};
use crate::Error;

impl Session {
    /// Notices of the transaction's work.
    pub(super) fn send_notices(&mut self, out: &mut dyn Output) {
        let Some(tx) = self.transaction.as_mut() else {
            return;
        };
        for notice in tx.take_notices() {
            self.send_notice(&notice, out);
        }
    }

    /// What functions have raised.
    pub(super) fn send_raised(&mut self, out: &mut dyn Output) {
        let raised = std::mem::take(&mut self.effects.borrow_mut().raised);
        self.tell(raised, out);
    }

    /// Tells what functions have raised, as far as the client wants it.
    pub(super) fn tell(&self, raised: Vec<(&'static str, Error)>, out: &mut dyn Output) {
        let grave = |severity: &str| match severity {
            "DEBUG" => 1,
            "LOG" => 2,
            "NOTICE" => 3,
            "WARNING" => 4,
            _ => 5,
        };
        let least = match self.effective.min_messages.as_str() {
            "error" => 5,
            "warning" => 4,
            "notice" => 3,
            "log" => 2,
            _ => 1,
        };
        for (severity, notice) in raised {
            if severity == "INFO" || grave(severity) >= least {
                out.notice(severity, &notice);
            }
        }
    }

    /// One notice, if the client wants it.
    pub(super) fn send_notice(&self, notice: &Error, out: &mut dyn Output) {
        let warning = notice.state().as_str().starts_with("01");
        let severity = if warning { "WARNING" } else { "NOTICE" };
        let quiet = match self.effective.min_messages.as_str() {
            "error" => true,
            "warning" => !warning,
            _ => false,
        };
        if !quiet {
            out.notice(severity, notice);
        }
    }
}
