//! The one test binary: what is tested against the running program.
