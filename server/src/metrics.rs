//! Metrics of the server in Prometheus format.
//!
//! Knows no route and no judge: callers count.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use joust_reward::arena::GroupResult;

/// Names and meanings, as they stand in `/metrics` and in docs/metrics.md.
pub const METRICS: [(&str, &str); 19] = [
    ("joust_server_requests_total", "Number of answered requests, by route and status"),
    (
        "joust_server_request_duration_seconds",
        "Time from the arrival of a request to its answer, by route",
    ),
    ("joust_server_open_groups", "Number of groups that are queued or judged"),
    (
        "joust_server_waiting_completions",
        "Number of requests with a single completion that wait for their answer",
    ),
    (
        "joust_server_open_cohorts",
        "Number of groups of single completions that are collected or judged",
    ),
    ("joust_server_queue_tokens", "Estimated judge tokens of the groups that are queued or judged"),
    ("joust_server_kept_results", "Number of cached results"),
    ("joust_server_kept_bytes", "Memory of cached results, in bytes"),
    (
        "joust_server_cached_votes",
        "Number of votes that were answered from the verdict cache or joined a vote in flight",
    ),
    (
        "joust_server_cached_tokens",
        "Number of completion tokens of the votes in joust_server_cached_votes",
    ),
    (
        "joust_server_resting_judges",
        "Number of the judge's servers that get no calls now, after failures",
    ),
    (
        "joust_server_known_total",
        "Number of requests that got the result of an identical group, cached or in flight",
    ),
    (
        "joust_server_forgotten_groups_total",
        "Number of groups of single completions that were forgotten, because their clients had \
         gone and none tried again within serve.retry_s",
    ),
    ("joust_server_dump_errors_total", "Number of failed writes of journal or dump"),
    (
        "joust_server_dump_lost_total",
        "Number of journal lines that were dropped, because neither disk nor memory had room",
    ),
    ("joust_reward_groups_total", "Number of judged groups"),
    ("joust_reward_completions_total", "Number of completions of judged groups, by status"),
    ("joust_reward_votes_total", "Number of votes of judged groups, by verdict"),
    ("joust_reward_judge_tokens_total", "Number of tokens that the judge generated"),
];

/// Names of the gauges, in the order of the values for [`ServerMetrics::page`].
pub(crate) const GAUGES: [&str; 9] = [
    "joust_server_open_groups",
    "joust_server_queue_tokens",
    "joust_server_waiting_completions",
    "joust_server_open_cohorts",
    "joust_server_kept_results",
    "joust_server_kept_bytes",
    "joust_server_cached_votes",
    "joust_server_cached_tokens",
    "joust_server_resting_judges",
];

fn meaning(name: &str) -> &'static str {
    let found = METRICS.iter().find(|(known, _)| *known == name);
    found.map(|(_, meaning)| *meaning).expect("every metric has a meaning. This is a bug.")
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabel {
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerdictLabel {
    verdict: String,
}

/// The server's metrics.
#[derive(Clone)]
pub(crate) struct ServerMetrics {
    registry: Arc<Registry>,
    requests: Family<AnswerLabels, Counter>,
    durations: Family<RouteLabel, Histogram, fn() -> Histogram>,
    /// In the order of [`GAUGES`].
    gauges: [Gauge; GAUGES.len()],
    shared_results: Counter,
    forgotten_groups: Counter,
    dump_errors: Counter,
    dump_losses: Counter,
    groups: Counter<u64, AtomicU64>,
    completions: Family<StatusLabel, Counter>,
    votes: Family<VerdictLabel, Counter>,
    judge_tokens: Counter<u64, AtomicU64>,
}

/// Buckets from a millisecond to more than an hour: a rule answers at once, a reasoning judge after
/// minutes.
fn duration_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 3.0, 15))
}

impl ServerMetrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let mut metrics = Self {
            registry: Arc::new(Registry::default()),
            requests: Family::default(),
            durations: Family::new_with_constructor(duration_histogram as fn() -> Histogram),
            gauges: Default::default(),
            shared_results: Counter::default(),
            forgotten_groups: Counter::default(),
            dump_errors: Counter::default(),
            dump_losses: Counter::default(),
            groups: Counter::default(),
            completions: Family::default(),
            votes: Family::default(),
            judge_tokens: Counter::default(),
        };
        // the format adds `_total` to the names of counters
        let counter = |name: &'static str| (name.trim_end_matches("_total"), meaning(name));
        let (name, help) = counter("joust_server_requests_total");
        registry.register(name, help, metrics.requests.clone());
        let name = "joust_server_request_duration_seconds";
        registry.register(name, meaning(name), metrics.durations.clone());
        for (name, gauge) in GAUGES.into_iter().zip(&metrics.gauges) {
            registry.register(name, meaning(name), gauge.clone());
        }
        let (name, help) = counter("joust_server_known_total");
        registry.register(name, help, metrics.shared_results.clone());
        let (name, help) = counter("joust_server_forgotten_groups_total");
        registry.register(name, help, metrics.forgotten_groups.clone());
        let (name, help) = counter("joust_server_dump_errors_total");
        registry.register(name, help, metrics.dump_errors.clone());
        let (name, help) = counter("joust_server_dump_lost_total");
        registry.register(name, help, metrics.dump_losses.clone());
        let (name, help) = counter("joust_reward_groups_total");
        registry.register(name, help, metrics.groups.clone());
        let (name, help) = counter("joust_reward_completions_total");
        registry.register(name, help, metrics.completions.clone());
        let (name, help) = counter("joust_reward_votes_total");
        registry.register(name, help, metrics.votes.clone());
        let (name, help) = counter("joust_reward_judge_tokens_total");
        registry.register(name, help, metrics.judge_tokens.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// Counts an answered request.
    pub(crate) fn count_answer(&self, route: &str, status: u16, took: Duration) {
        let labels = AnswerLabels { route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        let route = RouteLabel { route: route.to_owned() };
        self.durations.get_or_create(&route).observe(took.as_secs_f64());
    }

    /// Counts a judged group.
    pub(crate) fn count_group(&self, result: &GroupResult) {
        self.groups.inc();
        for row in &result.rewards {
            let labels = StatusLabel { status: row.status.to_string() };
            self.completions.get_or_create(&labels).inc();
        }
        for row in &result.votes {
            let labels = VerdictLabel { verdict: row.verdict.to_string() };
            self.votes.get_or_create(&labels).inc();
            self.judge_tokens.inc_by(u64::try_from(row.completion_tokens).unwrap_or(0));
        }
    }

    /// Counts a request that got the result of an identical group.
    pub(crate) fn count_shared_result(&self) {
        self.shared_results.inc();
    }

    /// Counts a group of single completions that was forgotten.
    pub(crate) fn count_forgotten_group(&self) {
        self.forgotten_groups.inc();
    }

    /// Counts a failed write of journal or dump.
    pub(crate) fn count_dump_error(&self) {
        self.dump_errors.inc();
    }

    /// Counts a line that the journal will never have.
    pub(crate) fn count_dump_loss(&self) {
        self.dump_losses.inc();
    }

    /// The page that Prometheus reads; `values` are those of [`GAUGES`].
    pub(crate) fn page(&self, values: [u64; GAUGES.len()]) -> String {
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(value as i64);
        }
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("a string takes any text. This is a bug.");
        page
    }
}
