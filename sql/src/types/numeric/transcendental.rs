//! Square roots, exponentials, logarithms and powers of `numeric`, computed with guard digits and
//! rounded to the scale that PostgreSQL chooses.
