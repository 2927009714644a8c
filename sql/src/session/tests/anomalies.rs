//! Anomalies per isolation level, each with the twin that must commit.
