//! Who may follow: committed entries in order.
