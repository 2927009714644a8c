//! The Markdown table and the median.

/// One line of the table.
pub struct Row {
    /// Script, scale, mode, clients.
    pub name: String,
    /// Freehold, transactions per second.
    pub ours: f64,
    /// PostgreSQL, transactions per second.
    pub theirs: f64,
    /// Median of the pairs' ratios.
    pub ratio: f64,
    /// Freehold's CPU microseconds per transaction.
    pub cpu_us: f64,
    /// The bar of a judged cell.
    pub bar: Option<&'static str>,
}

impl Row {
    /// The table's head.
    pub fn head() {
        println!("| pgbench | Freehold tps | PostgreSQL tps | ratio | CPU us | bar |");
        println!("|---|---|---|---|---|---|");
    }

    /// The line, printed at once so that a long run shows its progress.
    pub fn print(&self) {
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.0} | {} |",
            self.name,
            self.ours,
            self.theirs,
            self.ratio,
            self.cpu_us,
            self.bar.unwrap_or("")
        );
    }
}

/// The median; the mean of the middle two for an even count.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle() {
        assert_eq!(super::median(&mut [4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(super::median(&mut [9.0, 1.0, 5.0]), 5.0);
    }
}
