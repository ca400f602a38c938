//! Scoring as a whole: groups in, rewards with their evidence out, whatever the reward is.

use std::collections::BTreeMap;
use std::sync::Arc;

use joust_schema::ids::{GroupId, Member};
use joust_schema::tables::{Reward, Status};

use crate::arena::{Arena, GroupRequest, GroupResult, Progress};
use crate::config::{JudgeKind, RewardConfig, RewardKind};
use crate::error::Error;
use crate::judge::{
    CacheStats, CachedJudge, ChatReply, ChatRequest, EngineJudge, HttpJudge, Judge, JudgeError,
    JudgeServers, ReplayJudge, RuleJudge, VoteId,
};
use crate::rule;

/// Marks the ids of conversations, which the arena's votes never reach.
const CHATS: u64 = 1 << 63;

/// A judge with the tournaments it is judging, or a rule.
pub struct Scorer {
    config: RewardConfig,
    judge: Option<Box<dyn Judge>>,
    cache_stats: Option<Arc<CacheStats>>,
    arena: Arena,
    /// Groups that a rule has scored, until the next pump.
    by_rule: Vec<GroupResult>,
}

impl Scorer {
    /// Loads the configured judge. `record_latency` writes its times into the votes.
    ///
    /// # Errors
    /// [`Error::Config`] with all that is wrong with the settings; what loading the judge gives.
    pub fn open(config: &RewardConfig, record_latency: bool) -> Result<Self, Error> {
        let problems = config.validate();
        if !problems.is_empty() {
            return Err(Error::Config(problems.join("; ")));
        }
        let missing = || Error::Config("judge.model or judge.dump is missing".to_owned());
        let judge: Option<Box<dyn Judge>> = match (config.kind, config.judge.kind) {
            (RewardKind::Correct, _) => None,
            (_, JudgeKind::Rule) => Some(Box::<RuleJudge>::default()),
            (_, JudgeKind::Engine) => {
                let model = config.judge.model.as_ref().ok_or_else(missing)?;
                Some(Box::new(EngineJudge::open(model, &config.judge)?))
            }
            (_, JudgeKind::Http) => Some(Box::new(HttpJudge::open(&config.judge)?)),
            (_, JudgeKind::Replay) => {
                let dump = config.judge.dump.as_ref().ok_or_else(missing)?;
                Some(Box::new(ReplayJudge::open(dump)?))
            }
        };
        Ok(Self::with_judge(config, judge, record_latency))
    }

    /// Scores with a given judge, behind the configured cache; `None` scores by rule.
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
        Self { config: config.clone(), judge, cache_stats, arena, by_rule: Vec::new() }
    }

    /// Who judges.
    pub fn judge_name(&self) -> &str {
        self.judge.as_deref().map_or("rule", Judge::name)
    }

    /// What the cache of verdicts counts; none where there is no cache.
    pub fn cache_stats(&self) -> Option<Arc<CacheStats>> {
        self.cache_stats.clone()
    }

    /// The servers that the judge asks; none where it is in this process.
    pub fn judge_servers(&self) -> Option<Arc<dyn JudgeServers>> {
        self.judge.as_ref().and_then(|judge| judge.servers())
    }

    /// The judge alone; `None` where a rule scores.
    pub fn into_judge(self) -> Option<Box<dyn Judge>> {
        self.judge
    }

    /// How groups are scored.
    pub fn config(&self) -> &RewardConfig {
        &self.config
    }

    /// Takes a group in.
    ///
    /// # Errors
    /// As [`Arena::add`].
    pub fn add(&mut self, request: GroupRequest) -> Result<(), Error> {
        match self.judge {
            Some(_) => self.arena.add(request),
            None if request.completions.is_empty() => Err(Error::Group {
                group_id: request.group_id.0,
                reason: "completions is empty, wanted at least one".to_owned(),
            }),
            None => {
                self.by_rule.push(score_by_rule(&request));
                Ok(())
            }
        }
    }

    /// Groups that are not finished.
    pub fn n_open(&self) -> usize {
        self.arena.n_open() + self.by_rule.len()
    }

    /// Whether the judge could do more than the groups that are being played ask for. With twice its batch of
    /// votes under way further groups gain nothing by being begun.
    pub fn wants_more(&self) -> bool {
        self.wants_more_beside(0)
    }

    /// As [`Scorer::wants_more`], where it answers `n_chats` conversations beside the groups.
    pub fn wants_more_beside(&self, n_chats: usize) -> bool {
        let judge = &self.config.judge;
        let n_busy = match judge.kind {
            JudgeKind::Engine => 2 * judge.max_batch,
            JudgeKind::Http => 2 * judge.http.concurrency * judge.http.urls.len(),
            JudgeKind::Rule | JudgeKind::Replay => usize::MAX,
        };
        self.arena.n_in_flight() + n_chats < n_busy
    }

    /// Asks the judge for what the groups that were added need first.
    pub fn ask(&mut self) {
        if let Some(judge) = &mut self.judge {
            self.arena.ask(judge.as_mut());
        }
    }

    /// Works for a moment, and returns the groups that are finished with it.
    pub fn pump(&mut self) -> Vec<GroupResult> {
        match &mut self.judge {
            Some(judge) => self.arena.pump(judge.as_mut()),
            None => std::mem::take(&mut self.by_rule),
        }
    }

    /// How far the groups are that are being played.
    pub fn progress(&self) -> impl Iterator<Item = (&GroupId, Progress)> {
        self.arena.progress()
    }

    /// Drops a group that is being played; says whether it was there.
    pub fn cancel(&mut self, group_id: &GroupId) -> bool {
        let judge = self.judge.as_mut();
        judge.is_some_and(|judge| self.arena.cancel(group_id, judge.as_mut()))
    }

    /// Asks the judge's model itself; [`Scorer::pump`] works on it too, [`Scorer::chats`] gives the answers.
    ///
    /// # Errors
    /// [`JudgeError::Refused`] where there is no model.
    pub fn chat(&mut self, number: u64, request: ChatRequest) -> Result<(), JudgeError> {
        match &mut self.judge {
            Some(judge) => judge.chat(VoteId(CHATS | number), request),
            None => Err(JudgeError::Refused("a rule is no model to talk to".to_owned())),
        }
    }

    /// Answers that were finished since the last call, under their numbers.
    pub fn chats(&mut self) -> Vec<(u64, Result<ChatReply, JudgeError>)> {
        let finished = self.judge.as_mut().map_or_else(Vec::new, |judge| judge.chats());
        finished.into_iter().map(|(id, outcome)| (id.0 & !CHATS, outcome)).collect()
    }

    /// Drops a conversation whose answer nobody wants any more.
    pub fn cancel_chat(&mut self, number: u64) {
        if let Some(judge) = &mut self.judge {
            judge.cancel(VoteId(CHATS | number));
        }
    }

    /// Scores groups to the end, in the order given; their ids are unique. `progress` hears of every
    /// finished group. The result does not depend on what was scored before.
    ///
    /// # Errors
    /// As [`Arena::add`]; nothing is scored then.
    pub fn score_all(
        &mut self,
        groups: Vec<GroupRequest>,
        progress: &mut dyn FnMut(&GroupResult),
    ) -> Result<Vec<GroupResult>, Error> {
        if let Some(judge) = &mut self.judge {
            judge.forget();
        }
        let n_groups = groups.len();
        let ids = groups.iter().enumerate();
        let place_of: BTreeMap<_, _> =
            ids.map(|(place, group)| (group.group_id.clone(), place)).collect();
        for group in groups {
            self.add(group)?;
        }
        let mut finished = Vec::with_capacity(n_groups);
        while self.n_open() > 0 {
            for result in self.pump() {
                progress(&result);
                finished.push(result);
            }
        }
        finished.sort_by_key(|result| place_of[&result.group_id]);
        Ok(finished)
    }
}

/// Rewards of 1 and 0 by the known answer; without one there is no reward.
fn score_by_rule(request: &GroupRequest) -> GroupResult {
    let row = |(idx, completion): (usize, &String)| {
        let correct = request.reference.as_ref().map(|known| rule::is_correct(completion, known));
        Reward {
            group_id: request.group_id.clone(),
            member: Member(idx as u32),
            status: if correct.is_some() { Status::Scored } else { Status::JudgeFailed },
            reward: correct.map(|correct| if correct { 1.0 } else { 0.0 }),
            win_rate: None,
            rating: None,
            rating_stderr: None,
            wins: 0,
            losses: 0,
            rank: None,
            advantage: None,
        }
    };
    GroupResult {
        group_id: request.group_id.clone(),
        rewards: request.completions.iter().enumerate().map(row).collect(),
        matches: Vec::new(),
        votes: Vec::new(),
        winner: None,
        position_bias: None,
        is_refused: request.reference.is_none(),
    }
}
