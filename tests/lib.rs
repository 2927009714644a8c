//! What the black-box tests stand on: the program under test, a PostgreSQL 15 beside it, a client
//! that shows every message, and the rule for tools that are not installed.

pub mod attack;
mod fixture;

pub use fixture::cluster::{Cluster, eventually, free_ports, until};
pub use fixture::oracle::Oracle;
pub use fixture::place::{DATABASE, Place, SUPERUSER, SUPERUSER_PASSWORD, Security};
pub use fixture::program::{Program, command, program_file};
pub use fixture::report::report;
pub use fixture::session::{Answer, Column, End, Failure, Login, Session};
pub use fixture::tap::Tap;
pub use fixture::tool::{node_modules, postgres_tool, python, run, skipped, tool};
