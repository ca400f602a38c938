//! Packing of rows into micro-batches of similar length.
//!
//! Pure numbers; the result depends on the lengths alone.

/// Splits rows 0..lengths.len() into micro-batches of at most `max_rows` rows and `max_tokens`
/// tokens, padding included. Rows of similar length go together; a row longer than `max_tokens`
/// goes alone.
pub(crate) fn micro_batches(
    lengths: &[usize],
    max_rows: usize,
    max_tokens: usize,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| (std::cmp::Reverse(lengths[row]), row));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut longest = 0;
    for row in order {
        let fits = batches.last().is_some_and(|batch| {
            batch.len() < max_rows && (batch.len() + 1) * longest <= max_tokens
        });
        match batches.last_mut() {
            Some(batch) if fits => batch.push(row),
            _ => {
                longest = lengths[row];
                batches.push(vec![row]);
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
            lengths in prop::collection::vec(1usize..40, 0..60),
            max_rows in 1usize..10,
            max_tokens in 1usize..200,
        ) {
            let batches = micro_batches(&lengths, max_rows, max_tokens);
            let mut rows: Vec<usize> = batches.concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let longest = batch.iter().map(|&row| lengths[row]).max().unwrap();
                prop_assert!(batch.len() <= max_rows);
                prop_assert!(batch.len() == 1 || batch.len() * longest <= max_tokens);
            }
        }
    }
}
