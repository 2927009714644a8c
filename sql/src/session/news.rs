//! What a committed transaction tells those who LISTEN: its notifications, and table wake-ups. Here at
//! once; at other nodes when its entry is applied there.

use std::sync::Arc;

use super::notify::Notification;
use crate::catalog::Privilege;
use crate::cluster::News;
use crate::engine::Engine;

impl Engine {
    /// News of another node. Calls may come from any thread.
    pub fn notified(self: &Arc<Engine>, news: News) {
        if self.notifier().is_idle() {
            return;
        }
        let group = news.entry.and_then(|(id, _)| self.groups().get(id));
        let (Some(group), Some((_, position))) = (group, news.entry) else {
            return self.tell(news);
        };
        let engine = Arc::clone(self);
        group.when(position, Box::new(move |_| engine.tell(news)));
    }

    /// Does any session of this node LISTEN? Other nodes need not be told of anything else.
    pub fn is_listening(&self) -> bool {
        !self.notifier().is_idle()
    }

    /// Tells the sessions of this node.
    pub(super) fn tell(&self, news: News) {
        let News {
            process,
            entry,
            trees,
            notes,
        } = news;
        for (channel, payload) in notes {
            let note = Notification {
                process,
                channel,
                payload,
            };
            self.notifier().send_to(&note, false, |_| true);
        }
        let Some((group, position)) = entry else {
            return;
        };
        let catalog = self.catalog();
        for tree in trees {
            let table = catalog
                .table_of_tree(group, tree)
                .and_then(|id| catalog.table(id));
            let Some(table) = table else { continue };
            let note = Notification {
                process,
                channel: table.name.clone(),
                payload: position.to_string(),
            };
            self.notifier().send_to(&note, true, |process| {
                let role = self.activities().get(process).map(|a| a.role());
                role.is_some_and(|r| catalog.has_privilege(r, table, Privilege::Select, None))
            });
        }
    }
}
