//! A start of a run, as servers are told of it.

use joust_schema::seed::Seed;

/// A start of a run, as servers are told of it.
#[derive(Clone, Debug)]
pub struct StartId {
    /// Part of the name that servers give the weights: version numbers repeat where a run is
    /// resumed.
    pub id: String,
    /// Whether this process gives weights to the servers: among several, one does.
    pub publishes: bool,
}

impl StartId {
    /// An id that no other start has.
    pub fn fresh() -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = Seed::new(now.map_or(0, |now| now.as_nanos() as u64));
        format!("{:08x}", seed.child("process", std::process::id().into()).0 >> 32)
    }
}
