//! A judge that repeats the votes of a dump: the same tournament again without a model.
//!
//! It does not compare answers. A vote is found by its match, or else by the two members that meet:
//! another seed, another order of the groups or another program may let them meet in another round,
//! or show them in the other order. The vote then counts in the order in which it was cast.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use joust_schema::ids::{MatchId, Member};
use joust_schema::tables::{Match, Vote};

use super::interface::Judge;
use super::vote::{JudgeError, ShownPair, VoteId, VoteOutcome, VoteReply, VoteRequest};
use crate::error::Error;

/// Votes of a dump by match, position and attempt.
pub struct ReplayJudge {
    votes: BTreeMap<(MatchId, i32, i32), Vote>,
    matches: BTreeMap<MatchId, (Member, Member)>,
    /// The first match of two members of a group, the lower member first.
    first_meetings: BTreeMap<(String, Member, Member), MatchId>,
    finished: BTreeMap<VoteId, Result<VoteReply, JudgeError>>,
}

impl ReplayJudge {
    /// Reads `votes.parquet` and `matches.parquet` of a dump's folder, or of every subfolder that
    /// has them, such as those of the steps of a run.
    ///
    /// # Errors
    /// [`Error::Schema`] if a file is missing or broken, or if two folders have a match of the same
    /// name.
    pub fn open(dump: &Path) -> Result<Self, Error> {
        let mut folders = vec![dump.to_owned()];
        if !dump.join("votes.parquet").exists() {
            let io = |source| joust_schema::Error::io(dump, source);
            let entries = std::fs::read_dir(dump).map_err(io)?.collect::<Result<Vec<_>, _>>();
            let mut inside: Vec<_> =
                entries.map_err(io)?.iter().map(|entry| entry.path()).collect();
            inside.retain(|path| path.join("votes.parquet").exists());
            inside.sort();
            if !inside.is_empty() {
                folders = inside;
            }
        }
        let mut judge = Self {
            votes: BTreeMap::new(),
            matches: BTreeMap::new(),
            first_meetings: BTreeMap::new(),
            finished: BTreeMap::new(),
        };
        let mut folder_of: BTreeMap<MatchId, PathBuf> = BTreeMap::new();
        for folder in folders {
            for row in joust_schema::parquet::read::<Match>(&folder.join("matches.parquet"))? {
                if let Some(first) = folder_of.insert(row.match_id.clone(), folder.clone())
                    && first != folder
                {
                    let reason = format!(
                        "match {} is also in {}: groups of one name cannot be told apart; replay \
                         one folder alone",
                        row.match_id,
                        first.display()
                    );
                    return Err(joust_schema::Error::bad_file(&folder, reason).into());
                }
                let (low, high) = ordered(row.member_a, row.member_b);
                judge
                    .first_meetings
                    .entry((row.group_id.0, low, high))
                    .or_insert_with(|| row.match_id.clone());
                judge.matches.insert(row.match_id, (row.member_a, row.member_b));
            }
            for vote in joust_schema::parquet::read::<Vote>(&folder.join("votes.parquet"))? {
                judge.votes.insert((vote.match_id.clone(), vote.vote, vote.attempt), vote);
            }
        }
        Ok(judge)
    }

    /// The recorded match of the members that a vote shows: the one of the same name, else the
    /// first in which they met.
    fn meeting(&self, request: &VoteRequest) -> Option<(&MatchId, Member)> {
        let ShownPair { group_id, first, second } = &request.pair;
        let (low, high) = ordered(*first, *second);
        let is_same = |&&(a, b): &&(Member, Member)| ordered(a, b) == (low, high);
        let id = match self.matches.get(&request.match_id).filter(is_same) {
            Some(_) => &request.match_id,
            None => self.first_meetings.get(&(group_id.0.clone(), low, high))?,
        };
        // the name as it is kept, and who is its member a
        self.matches.get_key_value(id).map(|(id, &(a, _))| (id, a))
    }

    fn reply(&self, request: &VoteRequest) -> Result<VoteReply, JudgeError> {
        let (number, attempt) = (request.vote as i32, request.attempt as i32);
        let recorded = self.meeting(request).and_then(|(id, member_a)| {
            let vote = self.votes.get(&(id.clone(), number, attempt))?;
            Some((vote, vote.a_shown_first != (member_a == request.pair.first)))
        });
        let Some((vote, is_swapped)) = recorded else {
            return Err(JudgeError::Refused(format!(
                "the dump has no vote {} of match {}",
                request.vote, request.match_id
            )));
        };
        Ok(VoteReply {
            verdict: vote.verdict,
            is_swapped,
            text: vote.text.clone(),
            prompt_tokens: vote.prompt_tokens as usize,
            cached_prompt_tokens: vote.cached_prompt_tokens as usize,
            completion_tokens: vote.completion_tokens as usize,
            latency_ms: vote.latency_ms.unwrap_or(0.0),
            is_cut_off: vote.cut_off == Some(true),
        })
    }
}

fn ordered(one: Member, other: Member) -> (Member, Member) {
    (one.min(other), one.max(other))
}

impl Judge for ReplayJudge {
    fn name(&self) -> &str {
        "replay"
    }

    fn capacity(&self) -> usize {
        usize::MAX
    }

    fn submit(&mut self, request: VoteRequest) {
        let reply = self.reply(&request);
        self.finished.insert(request.id, reply);
    }

    fn cancel(&mut self, id: VoteId) {
        self.finished.remove(&id);
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        std::mem::take(&mut self.finished).into_iter().collect()
    }
}
