//! What one worker thread does: renders prompts, runs its engine, puts groups together.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{Receiver, Sender};
use joust_engine::model::Decoder;
use joust_engine::{Engine, Request, RequestId, Sample, SamplingParams};
use joust_schema::ids::{GroupId, Member, PolicyVersion};
use joust_schema::prompt::{Message, Prompt};
use joust_schema::tables::Rollout;

use super::GenerateRequest;
use crate::config::{ChatTemplate, RolloutConfig};
use crate::group::{Dropped, Group};
use crate::prompts::PromptRow;

/// One group to sample.
pub(super) struct Job {
    place: usize,
    step: i64,
    policy_version: PolicyVersion,
    row: PromptRow,
    seed: u64,
    group_size: Option<u32>,
    temperature: Option<f64>,
}

impl Job {
    pub(super) fn new(request: &GenerateRequest<'_>, place: usize, row: &PromptRow) -> Self {
        let seed = request.seed.child("rollout", request.step as u64);
        let seed = seed.child_str("prompt", &row.prompt_id.0).child("group", place as u64);
        Self {
            place,
            step: request.step,
            policy_version: request.policy_version,
            row: row.clone(),
            seed: seed.0,
            group_size: request.group_size,
            temperature: request.temperature,
        }
    }
}

/// What a worker is told to do.
pub(super) enum Command {
    Generate(Vec<Job>),
    Publish(Box<Decoder>),
}

/// What became of one prompt.
pub(super) enum Outcome {
    Group(Box<Group>),
    Dropped(Dropped),
}

/// What a worker says: outcomes by place, then that it is done.
pub(super) enum Report {
    Outcome(usize, Outcome),
    Done,
    Failed { worker: usize, reason: String },
}

/// The thread: obeys until its channel is closed.
pub(super) fn run(
    worker: usize,
    mut engine: Engine,
    config: &RolloutConfig,
    commands: &Receiver<Command>,
    reports: &Sender<Report>,
) {
    for command in commands {
        let result = catch_unwind(AssertUnwindSafe(|| match command {
            Command::Generate(jobs) => generate(&mut engine, config, jobs, reports),
            Command::Publish(weights) => engine.publish(&weights),
        }));
        if !matches!(result, Ok(Ok(()))) {
            // what was asked for is not wanted any more; the next command starts afresh
            engine.clear();
        }
        let report = match result {
            Ok(Ok(())) => Report::Done,
            Ok(Err(error)) => Report::Failed { worker, reason: error.to_string() },
            Err(panic) => Report::Failed { worker, reason: panic_text(panic.as_ref()) },
        };
        if reports.send(report).is_err() {
            return;
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("no message").lines().next().unwrap_or_default())
}

/// A job on its way: its prompt, and the samples that are finished.
struct Open {
    job: Job,
    rendered: String,
    prompt_token_ids: Vec<u32>,
    samples: Vec<Sample>,
    n_wanted: usize,
}

fn generate(
    engine: &mut Engine,
    config: &RolloutConfig,
    jobs: Vec<Job>,
    reports: &Sender<Report>,
) -> Result<(), joust_engine::Error> {
    let mut open: BTreeMap<u64, Open> = BTreeMap::new();
    // a resumed run must not differ from one that remembers more
    engine.forget_prefixes();
    // the other side has gone away where sending fails; there is nobody left to tell
    let say = |place: usize, outcome: Outcome| drop(reports.send(Report::Outcome(place, outcome)));
    for job in jobs {
        let (place, prompt_id) = (job.place, job.row.prompt_id.clone());
        match submit(engine, config, job) {
            Ok(started) => drop(open.insert(place as u64, started)),
            Err(error) if is_failure(&error) => return Err(error),
            Err(error) => {
                say(place, Outcome::Dropped(Dropped { prompt_id, reason: error.to_string() }));
            }
        }
    }
    while engine.has_work() {
        for sample in engine.step()? {
            let id = sample.request_id.0;
            let known = "samples answer requests that were made. This is a bug.";
            let entry = open.get_mut(&id).expect(known);
            entry.samples.push(sample);
            if entry.samples.len() == entry.n_wanted {
                let place = entry.job.place;
                let finished = open.remove(&id).expect(known);
                say(place, Outcome::Group(Box::new(group(finished))));
            }
        }
    }
    Ok(())
}

/// Failures of the machine, as opposed to prompts that cannot be used.
fn is_failure(error: &joust_engine::Error) -> bool {
    use joust_engine::Error;
    matches!(error, Error::Tensor(_) | Error::QueueFull { .. } | Error::BadRequest(_))
}

fn submit(
    engine: &mut Engine,
    config: &RolloutConfig,
    job: Job,
) -> Result<Open, joust_engine::Error> {
    let tokenizer = engine.tokenizer();
    let (rendered, prompt_token_ids) = match messages(&job.row.prompt, config) {
        Some(messages) => {
            let rendered = tokenizer.render_chat(&messages, true)?;
            let ids = tokenizer.encode(&rendered)?;
            (rendered, ids)
        }
        None => {
            let text = job.row.prompt.question();
            let ids = tokenizer.encode_prompt(&text)?;
            (text, ids)
        }
    };
    let n_samples = job.group_size.unwrap_or(config.group_size);
    let params = SamplingParams {
        max_tokens: config.max_completion_length,
        temperature: job.temperature.unwrap_or(config.temperature),
        top_p: config.top_p,
        top_k: config.top_k,
        n: n_samples,
        seed: job.seed,
        stop: config.stop.clone(),
        ..SamplingParams::default()
    };
    let id = RequestId(job.place as u64);
    engine.submit(Request::new(id, prompt_token_ids.clone(), params))?;
    Ok(Open { job, rendered, prompt_token_ids, samples: Vec::new(), n_wanted: n_samples as usize })
}

/// The chat messages to render, or `None` for a text that is continued as it is.
fn messages(prompt: &Prompt, config: &RolloutConfig) -> Option<Vec<Message>> {
    let mut messages = match (prompt, config.chat_template) {
        (Prompt::Text(_), ChatTemplate::Auto) => return None,
        (Prompt::Text(text), ChatTemplate::Always) => vec![Message::new("user", text)],
        (Prompt::Messages(messages), _) => messages.clone(),
    };
    let has_system = messages.first().is_some_and(|message| message.role == "system");
    if let Some(system) = &config.system_prompt
        && !has_system
    {
        messages.insert(0, Message::new("system", system));
    }
    Some(messages)
}

fn group(mut open: Open) -> Group {
    open.samples.sort_by_key(|sample| sample.index);
    let Open { job, rendered, prompt_token_ids, samples, .. } = open;
    let group_id = GroupId(format!("{:05}-{:04}", job.step, job.place));
    let signed = |ids: &[u32]| ids.iter().map(|&id| id as i32).collect::<Vec<i32>>();
    let rollout = |sample: Sample| Rollout {
        step: job.step,
        group_id: group_id.clone(),
        member: Member(sample.index),
        prompt_id: job.row.prompt_id.clone(),
        policy_version: job.policy_version,
        prompt: rendered.clone(),
        completion: sample.text,
        prompt_token_ids: signed(&prompt_token_ids),
        completion_token_ids: signed(&sample.token_ids),
        completion_logprobs: sample.logprobs,
        finish_reason: sample.finish_reason,
        seed: job.seed as i64,
    };
    let completions = samples.into_iter().map(rollout).collect();
    Group {
        group_id: group_id.clone(),
        prompt_id: job.row.prompt_id,
        prompt: job.row.prompt,
        answer: job.row.answer,
        completions,
    }
}
