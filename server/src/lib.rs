//! The Freehold program: sockets, lifecycle, cluster. Knows all, decides nothing.
