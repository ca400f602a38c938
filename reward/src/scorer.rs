//! Scoring: groups in, rewards with their evidence out, by a judge or a rule.
//!
//! It does not know where groups come from.

use std::collections::BTreeSet;
use std::sync::Arc;

use joust_schema::tables::Status;

use crate::arena::{Arena, GroupHandle, GroupProgress, GroupRequest, GroupResult, Handles};
use crate::batch::{FinishedGroup, ScoringBatch};
use crate::config::judge::JudgeKind;
use crate::config::{RewardConfig, RewardKind};
use crate::error::Error;
use crate::judge::{
    CacheStats, CachedJudge, ChatId, ChatOutcome, ChatRequest, EngineJudge, HttpJudge, Judge,
    JudgeError, JudgeServers, KeepingJudge, KeptVotes, ReplayJudge, RuleJudge,
};
use crate::pool::Alone;
use crate::prompt;
use crate::rule::{self, Correctness};

/// A judge with its open groups, or a rule.
pub struct Scorer {
    config: RewardConfig,
    judge: Option<Box<dyn Judge>>,
    cache_stats: Option<Arc<CacheStats>>,
    arena: Arena,
    /// Groups that a rule has scored, until the next pump.
    by_rule: Vec<(GroupHandle, GroupResult)>,
    rule_handles: Handles,
    n_chats: u64,
    open_chats: BTreeSet<ChatId>,
}

impl Scorer {
    /// Loads the configured judge. With `record_latency` its times are written into the votes.
    ///
    /// # Errors
    /// [`Error::Config`] with all problems of the settings; the errors of loading the judge.
    pub fn open(config: &RewardConfig, record_latency: bool) -> Result<Self, Error> {
        let problems = config.validate();
        if !problems.is_empty() {
            return Err(Error::Config(problems.join("; ")));
        }
        if config.kind != RewardKind::Correct {
            check_path(&config.judge.kind)?;
        }
        let judge: Option<Box<dyn Judge>> = match (config.kind, &config.judge.kind) {
            (RewardKind::Correct, _) => None,
            (_, JudgeKind::Rule) => Some(Box::<RuleJudge>::default()),
            (_, JudgeKind::Engine(engine)) => {
                Some(Box::new(EngineJudge::open(engine, &config.judge)?))
            }
            (_, JudgeKind::Http(http)) => Some(Box::new(HttpJudge::open(http, &config.judge)?)),
            (_, JudgeKind::Replay(replay)) => Some(Box::new(ReplayJudge::open(&replay.dump)?)),
        };
        Ok(Self::with_judge(config, judge, record_latency))
    }

    /// A scorer with a given judge, behind the configured cache; `None` scores by the rule.
    pub fn with_judge(
        config: &RewardConfig,
        judge: Option<Box<dyn Judge>>,
        record_latency: bool,
    ) -> Self {
        let arena = Arena::new(config, record_latency);
        let (judge, cache_stats) = match judge {
            Some(judge) if config.judge.verdict_cache_mib > 0 => {
                let cached = CachedJudge::new(judge, &config.judge);
                let stats = cached.stats();
                (Some(Box::new(cached) as Box<dyn Judge>), Some(stats))
            }
            judge => (judge, None),
        };
        Self {
            config: config.clone(),
            judge,
            cache_stats,
            arena,
            by_rule: Vec::new(),
            rule_handles: Handles::default(),
            n_chats: 0,
            open_chats: BTreeSet::new(),
        }
    }

    /// Keeps the judge's votes in a file, and takes those from it that came before.
    pub fn keep_votes(&mut self, kept: KeptVotes) {
        let keep = |judge| Box::new(KeepingJudge::new(judge, kept)) as Box<dyn Judge>;
        self.judge = self.judge.take().map(keep);
    }

    /// Name of the judge.
    pub fn judge_name(&self) -> &str {
        self.judge.as_deref().map_or("rule", Judge::name)
    }

    /// Counters of the verdict cache, if there is one.
    pub fn cache_stats(&self) -> Option<Arc<CacheStats>> {
        self.cache_stats.clone()
    }

    /// The servers that the judge calls; `None` if it runs in this process.
    pub fn judge_servers(&self) -> Option<Arc<dyn JudgeServers>> {
        self.judge.as_ref().and_then(|judge| judge.servers())
    }

    /// The judge alone; `None` if the rule scores.
    pub fn into_judge(self) -> Option<Box<dyn Judge>> {
        self.judge
    }

    /// The settings.
    pub fn config(&self) -> &RewardConfig {
        &self.config
    }

    /// Takes a group in. The handle names it from then on.
    ///
    /// # Errors
    /// As [`Arena::add`].
    pub fn add(&mut self, request: GroupRequest) -> Result<GroupHandle, Error> {
        match self.judge {
            Some(_) => self.arena.add(request),
            None if request.completions.is_empty() => Err(Error::Group {
                group_id: request.group_id.0,
                reason: "completions is empty, wanted at least one".to_owned(),
            }),
            None => {
                let handle = self.rule_handles.next();
                self.by_rule.push((handle, score_by_rule(&request)));
                Ok(handle)
            }
        }
    }

    /// Number of groups that are not finished.
    pub fn n_open(&self) -> usize {
        self.arena.n_open() + self.by_rule.len()
    }

    /// Whether a further group would keep the judge busier: true until votes and conversations in
    /// flight reach twice its capacity.
    pub fn wants_more(&self) -> bool {
        let capacity = self.judge.as_ref().map_or(usize::MAX, |judge| judge.capacity());
        self.arena.n_in_flight() + self.open_chats.len() < capacity.saturating_mul(2)
    }

    /// Requests the votes that can be requested now, without waiting for the next pump.
    pub fn request_votes(&mut self) {
        if let Some(judge) = &mut self.judge {
            self.arena.request_votes(judge.as_mut());
        }
    }

    /// Lets the judge work for a moment, and returns the finished groups by handle.
    pub fn pump(&mut self) -> Vec<(GroupHandle, GroupResult)> {
        match &mut self.judge {
            Some(judge) => self.arena.pump(judge.as_mut()),
            None => std::mem::take(&mut self.by_rule),
        }
    }

    /// Progress of each open group.
    pub fn progress(&self) -> impl Iterator<Item = (GroupHandle, GroupProgress)> {
        self.arena.progress()
    }

    /// Drops an open group; false if it is not open.
    pub fn cancel(&mut self, handle: GroupHandle) -> bool {
        match &mut self.judge {
            Some(judge) => self.arena.cancel(handle, judge.as_mut()),
            None => {
                let n_before = self.by_rule.len();
                self.by_rule.retain(|(finished, _)| *finished != handle);
                self.by_rule.len() < n_before
            }
        }
    }

    /// Submits a conversation to the judge's model. [`Scorer::pump`] works on it,
    /// [`Scorer::take_finished_chats`] returns the answer.
    ///
    /// # Errors
    /// [`JudgeError::Refused`] if the judge is not a model.
    pub fn add_chat(&mut self, request: ChatRequest) -> Result<ChatId, JudgeError> {
        let Some(judge) = &mut self.judge else {
            return Err(JudgeError::Refused("a rule is no model to talk to".to_owned()));
        };
        let no_model = format!("the judge ({}) is no model to talk to", judge.name());
        let model = judge.chat_model().ok_or(JudgeError::Refused(no_model))?;
        self.n_chats += 1;
        let id = ChatId(self.n_chats);
        model.submit_chat(id, request)?;
        self.open_chats.insert(id);
        Ok(id)
    }

    /// Returns the conversations that finished since the last call.
    pub fn take_finished_chats(&mut self) -> Vec<ChatOutcome> {
        let finished = match self.judge.as_mut().and_then(|judge| judge.chat_model()) {
            Some(model) => model.take_finished_chats(),
            None => Vec::new(),
        };
        for (id, _) in &finished {
            self.open_chats.remove(id);
        }
        finished
    }

    /// Drops a conversation whose answer is no longer needed.
    pub fn cancel_chat(&mut self, id: ChatId) {
        self.open_chats.remove(&id);
        if let Some(model) = self.judge.as_mut().and_then(|judge| judge.chat_model()) {
            model.cancel_chat(id);
        }
    }

    /// Scores all groups and returns their results in the same order. `progress` is called with
    /// every finished group. The judge's position bias is fitted to all of them together. The
    /// results do not depend on groups that were scored before. No other groups may be open.
    ///
    /// # Errors
    /// As [`Arena::add`]; nothing is scored then.
    pub fn score_all(
        &mut self,
        groups: Vec<GroupRequest>,
        progress: &mut dyn FnMut(),
    ) -> Result<Vec<GroupResult>, Error> {
        let mut batch = self.begin_batch();
        for (place, group) in groups.into_iter().enumerate() {
            if let Err(error) = self.add_to_batch(&mut batch, place, group) {
                self.cancel_batch(&mut batch);
                return Err(error);
            }
        }
        while batch.n_open() > 0 {
            (0..self.pump_batch(&mut batch)).for_each(|_| progress());
        }
        Ok(batch.results(&self.config, &Alone)?.into_values().collect())
    }

    /// A batch without groups. Its results do not depend on groups that were scored before; until
    /// its end, no other groups may be open.
    pub(crate) fn begin_batch(&mut self) -> ScoringBatch {
        if let Some(judge) = &mut self.judge {
            judge.clear_caches();
        }
        ScoringBatch::default()
    }

    /// Takes a group in, to be the one at `place` of the batch.
    ///
    /// # Errors
    /// As [`Scorer::add`].
    pub(crate) fn add_to_batch(
        &mut self,
        batch: &mut ScoringBatch,
        place: usize,
        request: GroupRequest,
    ) -> Result<(), Error> {
        batch.insert(self.add(request)?, place);
        Ok(())
    }

    /// Lets the judge work for a moment; the number of groups that it has finished.
    pub(crate) fn pump_batch(&mut self, batch: &mut ScoringBatch) -> usize {
        let finished: Vec<(GroupHandle, FinishedGroup)> = match &mut self.judge {
            Some(judge) => {
                let judged = self.arena.pump_judged(judge.as_mut()).into_iter();
                judged.map(|(handle, group)| (handle, FinishedGroup::Judged(group))).collect()
            }
            None => {
                let scored = std::mem::take(&mut self.by_rule).into_iter();
                scored.map(|(handle, result)| (handle, FinishedGroup::ByRule(result))).collect()
            }
        };
        let n_finished = finished.len();
        finished.into_iter().for_each(|(handle, group)| batch.finish_group(handle, group));
        n_finished
    }

    /// Drops the groups of the batch that are open.
    pub(crate) fn cancel_batch(&mut self, batch: &mut ScoringBatch) {
        for handle in batch.take_open() {
            self.cancel(handle);
        }
    }

    /// Whether results may depend on which groups the judge has at the same time.
    pub(crate) fn is_batch_dependent(&self) -> bool {
        self.judge.as_deref().is_some_and(Judge::is_batch_dependent)
    }
}

/// Refuses a judge whose files are not there, by the key that names them.
fn check_path(kind: &JudgeKind) -> Result<(), Error> {
    let (key, path, wanted) = match kind {
        JudgeKind::Engine(engine) => {
            ("model", Some(&engine.model), "a model folder (Hugging Face) or a GGUF file")
        }
        JudgeKind::Http(http) => ("tokenizer", http.tokenizer.as_ref(), "a model folder"),
        JudgeKind::Replay(replay) => ("dump", Some(&replay.dump), "the folder of a dump"),
        JudgeKind::Rule => return Ok(()),
    };
    match path {
        Some(path) if !path.exists() => Err(Error::Config(format!(
            "reward.judge.{key}: {} does not exist; set the key to the path of {wanted}",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Reward 1 for a correct completion and 0 for another; no reward without a known answer.
fn score_by_rule(request: &GroupRequest) -> GroupResult {
    let compare = |known: &String| {
        let answers =
            request.completions.iter().map(|text| prompt::answer(&request.question, text));
        answers.map(|answer| rule::correctness(answer, known)).collect()
    };
    let correctness: Vec<Correctness> = request.reference.as_ref().map_or(Vec::new(), compare);
    let reward_of = |member: usize| match correctness.get(member) {
        Some(found) => (Status::Scored, Some(if found.is_correct() { 1.0 } else { 0.0 })),
        None => (Status::JudgeFailed, None),
    };
    let rewards: Vec<_> = (0..request.completions.len()).map(reward_of).collect();
    let is_refused = request.reference.is_none();
    let unplayed = GroupResult::without_matches(request, rewards);
    GroupResult { is_refused, correctness, ..unplayed }
}
