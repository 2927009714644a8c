//! Window functions by kind: the executor, which has the partition, computes them.

/// A window function that is not an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// `row_number()`.
    RowNumber,
    /// `rank()`.
    Rank,
    /// `dense_rank()`.
    DenseRank,
    /// `percent_rank()`.
    PercentRank,
    /// `cume_dist()`.
    CumeDist,
    /// `ntile(buckets)`: 22014 below 1.
    Ntile,
    /// `lag(value [, offset [, default]])`.
    Lag,
    /// `lead(value [, offset [, default]])`.
    Lead,
    /// `first_value(value)`.
    FirstValue,
    /// `last_value(value)`.
    LastValue,
    /// `nth_value(value, n)`: 22016 below 1.
    NthValue,
}

/// The kind behind a window function's source name.
pub(super) fn by_source(source: &str) -> Option<Window> {
    Some(match source {
        "window_row_number" => Window::RowNumber,
        "window_rank" => Window::Rank,
        "window_dense_rank" => Window::DenseRank,
        "window_percent_rank" => Window::PercentRank,
        "window_cume_dist" => Window::CumeDist,
        "window_ntile" => Window::Ntile,
        "window_lag" | "window_lag_with_offset" | "window_lag_with_offset_and_default" => {
            Window::Lag
        }
        "window_lead" | "window_lead_with_offset" | "window_lead_with_offset_and_default" => {
            Window::Lead
        }
        "window_first_value" => Window::FirstValue,
        "window_last_value" => Window::LastValue,
        "window_nth_value" => Window::NthValue,
        _ => return None,
    })
}
