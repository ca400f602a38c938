//! Groups that other processes have judged at the same time, with which this one's are rated.
//!
//! It knows bytes. Who the other processes are, and how they are reached, is the caller's.

use crate::error::{Error, PoolError};

/// The processes that judge the groups of a step together.
pub trait RatingPool: Send + Sync {
    /// Gives this process's groups to all others, and returns theirs. All processes call it
    /// together.
    ///
    /// # Errors
    /// What keeps a process from the others.
    fn exchange(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, PoolError>;
}

/// A process without others.
pub(crate) struct Alone;

impl RatingPool for Alone {
    fn exchange(&self, _own: Vec<u8>) -> Result<Vec<Vec<u8>>, PoolError> {
        Ok(Vec::new())
    }
}

/// What all other processes have, from what this one has.
///
/// # Errors
/// [`Error::Pool`]
pub(crate) fn of_others<T>(pool: &dyn RatingPool, own: &[&T]) -> Result<Vec<T>, Error>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    const PLAIN: &str = "Plain data becomes JSON and comes back. This is a bug.";
    let own = serde_json::to_vec(own).expect(PLAIN);
    let others = pool.exchange(own).map_err(Error::Pool)?;
    let of_other = |bytes: Vec<u8>| -> Vec<T> { serde_json::from_slice(&bytes).expect(PLAIN) };
    Ok(others.into_iter().flat_map(of_other).collect())
}
