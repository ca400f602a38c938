//! A judge that repeats the votes of a dump: the same tournament again without a model.
//!
//! It does not compare answers; a vote is found by its match.

use std::collections::BTreeMap;
use std::path::Path;

use joust_schema::tables::Vote;

use super::interface::Judge;
use super::vote::{JudgeError, VoteId, VoteOutcome, VoteReply, VoteRequest};
use crate::error::Error;

/// Votes of a dump by match, position and attempt.
pub struct ReplayJudge {
    recorded: BTreeMap<(String, i32, i32), Vote>,
    finished: Vec<VoteOutcome>,
}

impl ReplayJudge {
    /// Reads `votes.parquet` of a dump's folder, or of every `step_*` folder of a run.
    ///
    /// # Errors
    /// [`Error::Schema`] if a file is missing or broken.
    pub fn open(dump: &Path) -> Result<Self, Error> {
        let mut files = vec![dump.join("votes.parquet")];
        if !files[0].exists() {
            let io = |source| joust_schema::Error::io(dump, source);
            let entries = std::fs::read_dir(dump).map_err(io)?.collect::<Result<Vec<_>, _>>();
            let mut dirs: Vec<_> = entries.map_err(io)?.iter().map(|entry| entry.path()).collect();
            dirs.sort();
            let in_steps: Vec<_> = dirs
                .into_iter()
                .map(|dir| dir.join("votes.parquet"))
                .filter(|path| path.exists())
                .collect();
            if !in_steps.is_empty() {
                files = in_steps;
            }
        }
        let mut recorded = BTreeMap::new();
        for file in files {
            for vote in joust_schema::parquet::read::<Vote>(&file)? {
                recorded.insert((vote.match_id.0.clone(), vote.vote, vote.attempt), vote);
            }
        }
        Ok(Self { recorded, finished: Vec::new() })
    }
}

impl Judge for ReplayJudge {
    fn name(&self) -> &str {
        "replay"
    }

    fn capacity(&self) -> usize {
        usize::MAX
    }

    fn submit(&mut self, request: VoteRequest) {
        let key = (request.match_id.0.clone(), request.vote as i32, request.attempt as i32);
        let result = match self.recorded.get(&key) {
            None => Err(JudgeError::Refused(format!(
                "the dump has no vote {} of match {}",
                request.vote, request.match_id
            ))),
            Some(vote) => Ok(VoteReply {
                verdict: vote.verdict,
                text: vote.text.clone(),
                prompt_tokens: vote.prompt_tokens as usize,
                cached_prompt_tokens: vote.cached_prompt_tokens as usize,
                completion_tokens: vote.completion_tokens as usize,
                latency_ms: vote.latency_ms.unwrap_or(0.0),
            }),
        };
        self.finished.push((request.id, result));
    }

    fn cancel(&mut self, id: VoteId) {
        self.finished.retain(|(finished, _)| *finished != id);
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        std::mem::take(&mut self.finished)
    }
}
