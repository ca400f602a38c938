//! Settings of calls to the servers, with the API key of the environment.
//!
//! It does not know what is asked.

use std::time::Duration;

use joust_fleet::{FleetConfig, OddNumbers};

use crate::config::ServersConfig;
use crate::error::Error;

/// Maximum size of an answer. A group of 64 completions of 32,768 tokens takes about 100 MiB.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// Settings of calls to `path` of each server.
///
/// # Errors
/// [`Error::Servers`] where the environment has no key.
pub(super) fn fleet_config(servers: &ServersConfig, path: &str) -> Result<FleetConfig, Error> {
    let mut headers = Vec::new();
    if let Some(name) = &servers.api_key_env {
        let key = std::env::var(name).unwrap_or_default().trim().to_owned();
        if key.is_empty() {
            let text = format!("api_key_env: the variable {name} is not set");
            return Err(Error::Servers(text));
        }
        headers.push(("authorization".to_owned(), format!("Bearer {key}")));
    }
    Ok(FleetConfig {
        urls: servers.urls.clone(),
        path: path.to_owned(),
        headers,
        concurrency: servers.concurrency,
        requests_per_minute: 0,
        timeout: Duration::from_secs_f64(servers.timeout_s),
        max_answer_bytes: MAX_ANSWER_BYTES,
        tries: servers.tries,
        outage: Duration::from_secs_f64(servers.outage_s),
        busy: Duration::from_secs_f64(servers.outage_s),
        // a log-probability that is no number is no answer
        odd_numbers: OddNumbers::Refused,
    })
}
