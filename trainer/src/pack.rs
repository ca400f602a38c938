//! Packing of rows into micro-batches of similar length.
//!
//! Pure numbers; the result depends on the lengths alone, and on what is kept together.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Splits rows 0..lengths.len() into micro-batches of at most `max_rows` rows and `max_tokens`
/// tokens, padding included. Rows of similar length go together, and so do all rows with the same
/// number in `units`; a unit that is larger than a micro-batch may be goes alone.
pub(crate) fn micro_batches(
    lengths: &[usize],
    units: &[usize],
    max_rows: usize,
    max_tokens: usize,
) -> Vec<Vec<usize>> {
    let mut rows_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (row, &unit) in units.iter().enumerate() {
        rows_of.entry(unit).or_default().push(row);
    }
    let longest_of = |rows: &[usize]| rows.iter().map(|&row| lengths[row]).max().unwrap_or(0);
    let mut order: Vec<Vec<usize>> = rows_of.into_values().collect();
    order.sort_by_key(|rows| (Reverse(longest_of(rows)), rows[0]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for rows in order {
        let fits = batches.last().is_some_and(|batch| {
            let n_rows = batch.len() + rows.len();
            n_rows <= max_rows && n_rows * longest <= max_tokens
        });
        match batches.last_mut() {
            Some(batch) if fits => batch.extend(rows),
            _ => {
                longest = longest_of(&rows);
                batches.push(rows);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::micro_batches;

    proptest! {
        #[test]
        fn micro_batches_hold_every_row_once_within_the_limits(
            rows in prop::collection::vec((1usize..40, 0usize..8), 0..60),
            alone in any::<bool>(),
            max_rows in 1usize..10,
            max_tokens in 1usize..200,
        ) {
            let lengths: Vec<usize> = rows.iter().map(|row| row.0).collect();
            let unit = |(at, row): (usize, &(usize, usize))| if alone { at } else { row.1 };
            let units: Vec<usize> = rows.iter().enumerate().map(unit).collect();
            let batches = micro_batches(&lengths, &units, max_rows, max_tokens);
            let mut rows: Vec<usize> = batches.concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let longest = batch.iter().map(|&row| lengths[row]).max().unwrap();
                let is_unit = batch.iter().all(|&row| units[row] == units[batch[0]]);
                prop_assert!(is_unit || batch.len() <= max_rows);
                prop_assert!(is_unit || batch.len() * longest <= max_tokens);
                let mut others = batches.iter().filter(|other| *other != batch).flatten();
                let is_in = |unit: usize| batch.iter().any(|&row| units[row] == unit);
                prop_assert!(!others.any(|&other| is_in(units[other])));
            }
        }
    }
}
