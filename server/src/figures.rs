//! Metrics of the server in Prometheus format.

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
pub const FIGURES: [(&str, &str); 17] = [
    ("joust_server_requests_total", "Answers, by route and status"),
    ("joust_server_request_duration_seconds", "Time from a request to its answer, by route"),
    ("joust_server_open_groups", "Groups that wait for the judge or are being judged"),
    ("joust_server_waiting_completions", "Completions that wait for their group"),
    ("joust_server_open_cohorts", "Groups of single completions that are collected or judged"),
    ("joust_server_queue_tokens", "Estimated judge tokens of the groups that wait or are judged"),
    ("joust_server_kept_results", "Results that are kept for clients that ask again"),
    ("joust_server_kept_bytes", "Memory of the results that are kept"),
    (
        "joust_server_cached_votes",
        "Votes that the verdict cache gave, or that joined one under way",
    ),
    ("joust_server_cached_tokens", "Tokens in them, which the judge did not write again"),
    ("joust_server_resting_judges", "Servers of the judge that are left alone after failures"),
    ("joust_server_known_total", "Groups that were answered by another request's judging"),
    ("joust_server_dump_errors_total", "Writes of journal or dump that failed"),
    ("joust_reward_groups_total", "Groups that were judged"),
    ("joust_reward_completions_total", "Completions of judged groups, by status"),
    ("joust_reward_votes_total", "Judge samples, by verdict"),
    ("joust_reward_judge_tokens_total", "Tokens that the judge wrote"),
];

/// Names of the gauges.
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
    let found = FIGURES.iter().find(|(known, _)| *known == name);
    found.map(|(_, meaning)| *meaning).expect("every figure has a meaning. This is a bug.")
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfStatus {
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfVerdict {
    verdict: String,
}

/// The server's metrics.
#[derive(Clone)]
pub(crate) struct Figures {
    registry: Arc<Registry>,
    requests: Family<RouteLabels, Counter>,
    durations: Family<Route, Histogram, fn() -> Histogram>,
    /// In the order of [`GAUGES`].
    gauges: [Gauge; GAUGES.len()],
    known: Counter,
    dump_errors: Counter,
    groups: Counter<u64, AtomicU64>,
    completions: Family<OfStatus, Counter>,
    votes: Family<OfVerdict, Counter>,
    tokens: Counter<u64, AtomicU64>,
}

/// A millisecond to an hour: a rule answers at once, a reasoning judge takes its time.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 3.0, 15))
}

impl Figures {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let mut figures = Self {
            registry: Arc::new(Registry::default()),
            requests: Family::default(),
            durations: Family::new_with_constructor(durations as fn() -> Histogram),
            gauges: Default::default(),
            known: Counter::default(),
            dump_errors: Counter::default(),
            groups: Counter::default(),
            completions: Family::default(),
            votes: Family::default(),
            tokens: Counter::default(),
        };
        // counters get their `_total` from the format
        let counter = |name: &'static str| (name.trim_end_matches("_total"), meaning(name));
        let (name, help) = counter("joust_server_requests_total");
        registry.register(name, help, figures.requests.clone());
        let name = "joust_server_request_duration_seconds";
        registry.register(name, meaning(name), figures.durations.clone());
        for (name, gauge) in GAUGES.into_iter().zip(&figures.gauges) {
            registry.register(name, meaning(name), gauge.clone());
        }
        let (name, help) = counter("joust_server_known_total");
        registry.register(name, help, figures.known.clone());
        let (name, help) = counter("joust_server_dump_errors_total");
        registry.register(name, help, figures.dump_errors.clone());
        let (name, help) = counter("joust_reward_groups_total");
        registry.register(name, help, figures.groups.clone());
        let (name, help) = counter("joust_reward_completions_total");
        registry.register(name, help, figures.completions.clone());
        let (name, help) = counter("joust_reward_votes_total");
        registry.register(name, help, figures.votes.clone());
        let (name, help) = counter("joust_reward_judge_tokens_total");
        registry.register(name, help, figures.tokens.clone());
        figures.registry = Arc::new(registry);
        figures
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, route: &str, status: u16, took: Duration) {
        let labels = RouteLabels { route: route.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        let route = Route { route: route.to_owned() };
        self.durations.get_or_create(&route).observe(took.as_secs_f64());
    }

    /// Counts a judged group.
    pub(crate) fn judged(&self, result: &GroupResult) {
        self.groups.inc();
        for row in &result.rewards {
            let labels = OfStatus { status: row.status.to_string() };
            self.completions.get_or_create(&labels).inc();
        }
        for row in &result.votes {
            let labels = OfVerdict { verdict: row.verdict.to_string() };
            self.votes.get_or_create(&labels).inc();
            self.tokens.inc_by(u64::try_from(row.completion_tokens).unwrap_or(0));
        }
    }

    /// Counts a group that needed no judging of its own.
    pub(crate) fn was_known(&self) {
        self.known.inc();
    }

    /// Counts a write of journal or dump that failed.
    pub(crate) fn dump_failed(&self) {
        self.dump_errors.inc();
    }

    /// The page that Prometheus reads, with the present values of [`GAUGES`].
    pub(crate) fn page(&self, values: [u64; GAUGES.len()]) -> String {
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(value as i64);
        }
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("a string takes any text. This is a bug.");
        page
    }
}
