//! Sums over all ranks of what each has computed.

use joust_dist::Collectives;

use crate::error::Error;

/// Replaces each number by its sum over all ranks.
///
/// # Errors
/// [`Error::Ranks`]
pub(super) fn add_ranks<const N: usize>(
    numbers: [&mut f64; N],
    ranks: &Collectives,
) -> Result<(), Error> {
    let mut sums = numbers.each_ref().map(|number| **number);
    ranks.sum_f64(&mut sums)?;
    numbers.into_iter().zip(sums).for_each(|(number, sum)| *number = sum);
    Ok(())
}
