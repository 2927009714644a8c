//! Rows of system relations against their shapes.
