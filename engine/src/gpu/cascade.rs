//! Which rows share a prefix of their contexts: bundles of rows for cascade attention, which reads
//! the shared keys and values once per bundle. Plain numbers, no tensors.

use super::tuning::{CASCADE_MAX_GROUP, CASCADE_MIN_SPANS};

/// Number of rows per bundle, as `cascade.cu` takes them.
pub(super) const BUNDLE_ROWS: usize = 8;

/// Bundles of rows, and how many spans each bundle shares.
#[derive(Debug, PartialEq)]
pub(super) struct CascadePlan {
    /// Per row, the number of spans that its bundle computes.
    pub(super) n_shared: Vec<i32>,
    /// Rows of each bundle, padded with -1.
    pub(super) rows: Vec<[i32; BUNDLE_ROWS]>,
    /// Per bundle, the number of spans that its rows share.
    pub(super) n_spans: Vec<i32>,
}

impl CascadePlan {
    /// The bundles that save the most reads of spans. Only neighbours in the order of contexts are
    /// grouped. None where no read is saved.
    pub(super) fn of(contexts: &[Vec<i32>]) -> Option<Self> {
        let mut order: Vec<usize> = (0..contexts.len()).collect();
        order.sort_by(|&a, &b| contexts[a].cmp(&contexts[b]));
        let alike = |(at, &row): (usize, &usize)| match at {
            0 => 0,
            _ => n_alike(&contexts[order[at - 1]], &contexts[row]),
        };
        // number of spans that each context shares with the context before it
        let shared: Vec<usize> = order.iter().enumerate().map(alike).collect();
        let mut sharing = Self::none(contexts.len());
        for (start, end, n_spans) in groups(&shared) {
            sharing.add(&order[start..end], n_spans);
        }
        (!sharing.rows.is_empty()).then_some(sharing)
    }

    /// A plan in which no rows share spans.
    pub(super) fn none(n_rows: usize) -> Self {
        Self { n_shared: vec![0; n_rows], rows: Vec::new(), n_spans: Vec::new() }
    }

    /// Adds bundles of `rows`, whose contexts share their first `n_spans` spans.
    pub(super) fn add(&mut self, rows: &[usize], n_spans: usize) {
        for &row in rows {
            self.n_shared[row] = n_spans as i32;
        }
        for rows in rows.chunks(BUNDLE_ROWS) {
            let mut bundle = [-1; BUNDLE_ROWS];
            for (place, &row) in bundle.iter_mut().zip(rows) {
                *place = row as i32;
            }
            self.rows.push(bundle);
            self.n_spans.push(n_spans as i32);
        }
    }
}

/// Maximum number of bundles of `n_rows` rows, at least two rows per bundle.
pub(super) fn most_bundles(n_rows: usize) -> usize {
    n_rows / 2
}

fn n_alike(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Groups of neighbours (first, past the last, shared spans) that together save the most reads.
fn groups(shared: &[usize]) -> Vec<(usize, usize, usize)> {
    // per prefix of the rows: the maximum saving, and the group that ends with its last row
    let mut best = vec![(0, None)];
    for end in 1..=shared.len() {
        let mut most = (best[end - 1].0, None);
        let mut least = usize::MAX;
        for start in (end.saturating_sub(CASCADE_MAX_GROUP)..end - 1).rev() {
            least = least.min(shared[start + 1]);
            if least < CASCADE_MIN_SPANS {
                break;
            }
            let n_rows = end - start;
            let saved = best[start].0 + (n_rows - n_rows.div_ceil(BUNDLE_ROWS)) * least;
            if saved > most.0 {
                most = (saved, Some((start, end, least)));
            }
        }
        best.push(most);
    }
    let mut found = Vec::new();
    let mut end = shared.len();
    while end > 0 {
        match best[end].1 {
            Some(group) => {
                found.push(group);
                end = group.0;
            }
            None => end -= 1,
        }
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A context of runs of spans, each given as (kind, number of spans).
    fn context(parts: &[(i32, usize)]) -> Vec<i32> {
        parts.iter().flat_map(|&(kind, n)| (0..n as i32).map(move |at| kind * 1000 + at)).collect()
    }

    #[test]
    fn cascade_plan_bundles_rows_of_one_prompt_by_eight() {
        let mut contexts: Vec<Vec<i32>> =
            (0..10).map(|own| context(&[(1, 100), (10 + own, 3)])).collect();
        contexts.insert(4, context(&[(2, 50)]));
        let sharing = CascadePlan::of(&contexts).unwrap();
        assert_eq!(sharing.n_shared, [100, 100, 100, 100, 0, 100, 100, 100, 100, 100, 100]);
        assert_eq!(sharing.rows[0], [0, 1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(sharing.rows[1], [9, 10, -1, -1, -1, -1, -1, -1]);
        assert_eq!(sharing.n_spans, [100, 100]);
        // a bundle with a single ninth row saves no reads
        contexts.pop();
        assert_eq!(CascadePlan::of(&contexts).unwrap().n_shared[9], 0);
        assert_eq!(CascadePlan::of(&contexts[4..5]), None);
        assert_eq!(CascadePlan::of(&[]), None);
    }

    #[test]
    fn cascade_plan_prefers_a_long_prefix_of_few_rows_to_a_short_one_of_all() {
        // one system prompt, two questions
        let contexts: Vec<Vec<i32>> =
            (0..5).map(|own| context(&[(1, 20), (2 + own / 2, 200), (10 + own, 2)])).collect();
        let sharing = CascadePlan::of(&contexts).unwrap();
        assert_eq!(sharing.n_shared, [220, 220, 220, 220, 0]);
        // too short for cascade attention
        let short: Vec<Vec<i32>> = (0..5).map(|own| context(&[(1, 15), (9 + own, 90)])).collect();
        assert_eq!(CascadePlan::of(&short), None);
    }

    proptest! {
        #[test]
        fn cascade_plan_bundles_share_their_spans(
            contexts in prop::collection::vec(
                (0usize..4, 0usize..40, 0usize..4).prop_map(|(kind, n, own)| {
                    context(&[(kind as i32, n), (7 + own as i32, 5)])
                }),
                0..30,
            ),
        ) {
            let Some(sharing) = CascadePlan::of(&contexts) else { return Ok(()) };
            prop_assert!(sharing.rows.len() <= most_bundles(contexts.len()));
            let mut n_seen = vec![0; contexts.len()];
            for (rows, &n_spans) in sharing.rows.iter().zip(&sharing.n_spans) {
                prop_assert!(n_spans >= CASCADE_MIN_SPANS as i32);
                let first = &contexts[rows[0] as usize][..n_spans as usize];
                for &row in rows.iter().filter(|row| **row >= 0) {
                    prop_assert_eq!(&contexts[row as usize][..n_spans as usize], first);
                    prop_assert_eq!(sharing.n_shared[row as usize], n_spans);
                    n_seen[row as usize] += 1;
                }
            }
            for (n_seen, n_shared) in n_seen.iter().zip(&sharing.n_shared) {
                prop_assert_eq!(*n_seen, i32::from(*n_shared > 0));
            }
        }
    }
}
