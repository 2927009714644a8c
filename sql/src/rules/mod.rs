//! Rewriting of the logical plan: conditions go down to where they can be checked first, views
//! and CTEs put in place lose their walls, EXISTS and IN become semi-joins, inner joins are put
//! in an order, constants are folded.

mod access;
mod estimate;
mod fold;
mod place;
mod semi;

pub use access::{Chosen, Wanted, choose};
pub use estimate::{Statistics, TABLE_ROWS, rows};
pub use fold::fold;
pub use place::place;
