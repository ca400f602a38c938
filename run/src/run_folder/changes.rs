//! Comparison of the config of a start with the one of the start before: what may differ where a
//! run is resumed.
//!
//! It knows keys and values, and no files of a run.

use std::fmt;

use toml::{Table, Value};

use crate::config::renamed::new_name;

/// Keys, and sections whose keys, may differ: they say where the run is and how fast it works (its
/// place, threads, limits of batches and memory, servers), or how long it goes on and what it
/// leaves (steps, measurements, checkpoints, the export). All others say what is computed; of them
/// may differ what has to where a run cannot go on, because its numbers grow beyond all bounds or
/// its completions are all truncated.
const MAY_CHANGE: &[&str] = &[
    // place
    "run.name",
    "run.output_dir",
    "export",
    // length
    "train.steps",
    "trainer.steps",
    "trainer.epochs",
    "eval.every",
    "checkpoint",
    "reward.max_failed",
    // what is learned from, and how fast
    "rollout.max_completion_length",
    "trainer.mask_truncated_completions",
    "trainer.learner.optim.lr",
    "trainer.learner.optim.schedule",
    // speed
    "run.threads",
    "run.ranks",
    "rollout.workers",
    "rollout.queue_capacity",
    "rollout.engine.max_batch",
    "rollout.engine.max_queue",
    "rollout.engine.step_tokens",
    "rollout.engine.kv_memory_mib",
    "rollout.engine.prefix_cache",
    "rollout.engine.cuda_graphs",
    "rollout.engine.shared_attention",
    "rollout.engine.fetch_ahead_mib",
    "reward.judge.engine.max_batch",
    "reward.judge.engine.max_queue",
    "reward.judge.engine.step_tokens",
    "reward.judge.engine.kv_memory_mib",
    "reward.judge.engine.prefix_cache",
    "reward.judge.engine.cuda_graphs",
    "reward.judge.engine.shared_attention",
    "reward.judge.engine.fetch_ahead_mib",
    "trainer.learner.micro_batch_rows",
    "trainer.learner.micro_batch_tokens",
    "trainer.learner.logits_mib",
    "trainer.learner.checkpoint_activations",
    "trainer.learner.shard",
    // the policy's servers
    "rollout.servers.urls",
    "rollout.servers.model",
    "rollout.servers.api_key_env",
    "rollout.servers.concurrency",
    "rollout.servers.timeout_s",
    "rollout.servers.tries",
    "rollout.servers.outage_s",
    "rollout.servers.weights_dir",
    "rollout.servers.weights_dir_on_server",
    "rollout.servers.keep_weights",
    "rollout.servers.max_logprob_difference",
    // the judge's servers
    "reward.judge.urls",
    "reward.judge.api_key_env",
    "reward.judge.concurrency",
    "reward.judge.requests_per_minute",
    "reward.judge.timeout_s",
    "reward.judge.tries",
    "reward.judge.outage_s",
    "reward.judge.busy_s",
    "reward.judge.headers",
    "reward.judge.headers_env",
    // programs and servers of the reward's parts
    "reward.parts.timeout_s",
    "reward.parts.url",
    "reward.parts.headers_env",
    "reward.parts.concurrency",
    "reward.parts.tries",
    "reward.parts.outage_s",
];

/// A key whose value differs between two starts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyChange {
    /// The dotted key.
    pub(super) key: String,
    /// The value of the start before; none where the key was not there.
    pub(super) from: Option<Value>,
    /// The value of this start; none where the key is not there.
    pub(super) to: Option<Value>,
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| match value {
            Some(value) => value.to_string(),
            None => "unset".to_owned(),
        };
        write!(f, "{} {} → {}", self.key, text(&self.from), text(&self.to))
    }
}

/// All keys whose values differ, in the order of the config.
pub(super) fn changes(old: &Table, new: &Table) -> Vec<KeyChange> {
    let mut found = Vec::new();
    collect("", old, new, &mut found);
    found
}

fn collect(at: &str, old: &Table, new: &Table, found: &mut Vec<KeyChange>) {
    let only_old = old.keys().filter(|key| !new.contains_key(key.as_str()));
    for key in new.keys().chain(only_old) {
        let name = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        let empty = Table::new();
        match (old.get(key), new.get(key)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => collect(&name, old, new, found),
            (None, Some(Value::Table(new))) => collect(&name, &empty, new, found),
            (Some(Value::Table(old)), None) => collect(&name, old, &empty, found),
            (Some(Value::Array(old)), Some(Value::Array(new))) if are_like_tables(old, new) => {
                for (idx, (old, new)) in old.iter().zip(new).enumerate() {
                    if let (Value::Table(old), Value::Table(new)) = (old, new) {
                        collect(&format!("{name}[{idx}]"), old, new, found);
                    }
                }
            }
            (from, to) if from == to => {}
            (from, to) => {
                found.push(KeyChange { key: name, from: from.cloned(), to: to.cloned() });
            }
        }
    }
}

/// Whether two lists are tables, as many in each.
fn are_like_tables(old: &[Value], new: &[Value]) -> bool {
    old.len() == new.len() && old.iter().chain(new).all(Value::is_table)
}

/// A dotted key without the indexes of tables in lists.
fn without_indexes(key: &str) -> String {
    let parts = key.split('.').map(|part| part.split('[').next().unwrap_or(part));
    parts.collect::<Vec<_>>().join(".")
}

/// Whether a run may go on with another value of `key`. The keys `by_content` name files whose
/// content is the same.
pub(super) fn may_change(key: &str, by_content: &[&str]) -> bool {
    let plain = without_indexes(key);
    let is_under = |listed: &&str| {
        plain.strip_prefix(*listed).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    by_content.contains(&key) || MAY_CHANGE.iter().any(is_under)
}

/// The keys, dotted, that say what is computed and whose values differ.
pub fn differing_keys(old: &Table, new: &Table) -> Vec<String> {
    let keys = changes(old, new).into_iter().map(|change| change.key);
    keys.filter(|key| !may_change(key, &[])).collect()
}

/// Why a run cannot go on with these changes; none if it can.
pub(super) fn refusal(changes: &[KeyChange], by_content: &[&str]) -> Option<String> {
    let keys = changes.iter().map(|change| change.key.as_str());
    let keys: Vec<&str> = keys.filter(|key| !may_change(key, by_content)).collect();
    let renamed = keys.iter().find_map(|key| Some((key, new_name(key)?)));
    match (renamed, keys.as_slice()) {
        (_, []) => None,
        (Some((key, name)), _) => Some(format!(
            "key `{key}` has a new name: {name}; finish the run with the version that started it, \
             or start over with --clean"
        )),
        (None, [key]) => Some(format!(
            "key `{key}` differs from the config of this start; resume with the same config, or \
             start over with --clean"
        )),
        (None, keys) => Some(format!(
            "keys `{}` differ from the config of this start; resume with the same config, or start \
             over with --clean",
            keys.join("`, `")
        )),
    }
}

#[cfg(test)]
mod tests {
    use joust_schema::config::keys::{ConfigKeys, Shape};

    use super::*;
    use crate::config::dpo::DpoRun;
    use crate::config::sft::SftRun;
    use crate::config::train::TrainRun;

    fn refused(old: &str, new: &str) -> Option<String> {
        let table = |text: &str| text.parse::<Table>().unwrap();
        refusal(&changes(&table(old), &table(new)), &["policy.path"])
    }

    #[test]
    fn refusal_names_all_keys_that_say_what_is_computed() {
        assert_eq!(refused("[train]\nsteps = 3", "train = { steps = 3 }"), None);
        // a run that cannot go on as it began
        let old = "[rollout]\nmax_completion_length = 8\n[trainer]\n\
                   mask_truncated_completions = true\n[trainer.learner.optim]\nlr = 0.1\n\
                   schedule = { kind = \"cosine\" }";
        let new = "[rollout]\nmax_completion_length = 9\n[trainer]\n\
                   mask_truncated_completions = false\n[trainer.learner.optim]\nlr = 0.01\n\
                   schedule = { kind = \"constant\" }";
        assert_eq!(refused(old, new), None);
        let beta = refused(old, &format!("{new}\nbeta1 = 0.5")).unwrap();
        assert!(beta.contains("key `trainer.learner.optim.beta1` differs"), "{beta}");
        let other =
            refused("[trainer.loss.kl]\nweight = 0.1", "trainer.loss.kl.weight = 0.2").unwrap();
        assert!(other.starts_with("key `trainer.loss.kl.weight` differs from"), "{other}");
        let two = refused("a = 1\n[b]\nc = 1", "d = 1").unwrap();
        assert!(two.starts_with("keys `d`, `a`, `b.c` differ"), "{two}");
        let old = refused("[rollout]\nmax_batch = 3", "[rollout.engine]\nmax_batch = 3").unwrap();
        let wanted = "`rollout.max_batch` has a new name: rollout.engine.max_batch";
        assert!(old.contains(wanted), "{old}");
    }

    #[test]
    fn place_length_and_speed_may_change_and_inputs_where_their_content_is_the_same() {
        let old = "[run]\nname = 'a'\nthreads = 1\n[train]\nsteps = 3\n[policy]\npath = 'p'\n\
                   [checkpoint]\nevery = 0\n[prompts]\npath = 'q'";
        let new = "[run]\nname = 'b'\nthreads = 2\n[train]\nsteps = 9\n[policy]\npath = 'r'\n\
                   [checkpoint]\nevery = 2\n[prompts]\npath = 'q'\n[export]\npath = 'x'";
        assert_eq!(refused(old, new), None);
        let prompts = refused(old, &new.replace("path = 'q'", "path = 's'")).unwrap();
        assert!(prompts.contains("key `prompts.path` differs"), "{prompts}");
        let table = |text: &str| text.parse::<Table>().unwrap();
        let told: Vec<String> =
            changes(&table(old), &table(new)).iter().map(KeyChange::to_string).collect();
        assert_eq!(told[0], "run.name \"a\" → \"b\"");
        assert_eq!(told.last().unwrap(), "export.path unset → \"x\"");
    }

    #[test]
    fn tables_of_a_list_are_compared_key_by_key() {
        let old = "[[reward.parts]]\nkind = 'command'\nrun = ['a']\ntimeout_s = 1\n\
                   [[reward.parts]]\nkind = 'correct'";
        assert_eq!(refused(old, &old.replace("timeout_s = 1", "timeout_s = 9")), None);
        let words = refused(old, &old.replace("['a']", "['b']")).unwrap();
        assert!(words.starts_with("key `reward.parts[0].run` differs"), "{words}");
        let fewer = refused(old, "[[reward.parts]]\nkind = 'correct'").unwrap();
        assert!(fewer.starts_with("key `reward.parts` differs"), "{fewer}");
    }

    #[test]
    fn keys_that_may_change_are_keys() {
        fn has(keys: &ConfigKeys, dotted: &str) -> bool {
            match dotted.split_once('.') {
                None => keys.get(dotted).is_some(),
                Some((first, rest)) => match keys.get(first).map(|key| &key.shape) {
                    Some(Shape::Table(inner)) => has(inner, rest),
                    Some(Shape::List { items, .. }) => match items.as_ref() {
                        Shape::Table(inner) => has(inner, rest),
                        _ => false,
                    },
                    _ => false,
                },
            }
        }
        let all =
            [ConfigKeys::of::<TrainRun>(), ConfigKeys::of::<SftRun>(), ConfigKeys::of::<DpoRun>()];
        for key in MAY_CHANGE {
            assert!(all.iter().any(|keys| has(keys, key)), "{key} is no key");
        }
    }
}
