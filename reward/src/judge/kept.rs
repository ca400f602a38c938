//! Votes that are kept in a file as they come: who is asked for them again, after an interruption,
//! has them at once.
//!
//! It does not know which votes are asked for, nor what the inner judge is. The file is a help: one
//! that cannot be written is given up, with a warning.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use joust_schema::ids::MatchId;
use joust_schema::{Error, jsonl};
use serde::{Deserialize, Serialize};

use super::chat::ChatModel;
use super::interface::{Judge, JudgeServers};
use super::vote::{VoteId, VoteOutcome, VoteReply, VoteRequest};

/// Match, number and attempt of a vote.
type VoteKey = (MatchId, u32, u32);

/// The file of the votes that came since [`KeptVotes::begin`]. Clones share it.
#[derive(Clone, Default)]
pub struct KeptVotes(Arc<Mutex<VoteFile>>);

#[derive(Default)]
struct VoteFile {
    open: Option<(PathBuf, File)>,
    known: BTreeMap<VoteKey, VoteReply>,
}

/// The first line of the file: whose votes it has.
#[derive(PartialEq, Serialize, Deserialize)]
struct Heading {
    votes_of: String,
}

#[derive(Serialize, Deserialize)]
struct KeptVote {
    match_id: MatchId,
    vote: u32,
    attempt: u32,
    reply: VoteReply,
}

impl KeptVotes {
    /// Goes on with the file at `path` if it has votes of `votes_of`; else begins it anew. Returns
    /// the number of votes that it has.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn begin(&self, path: &Path, votes_of: &str) -> Result<usize, Error> {
        let io = |source| Error::io(path, source);
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path).map_err(io)?;
        let heading = Heading { votes_of: votes_of.to_owned() };
        let (known, n_bytes) = read_votes(&file, &heading);
        // also a last line that was cut off
        file.set_len(n_bytes).map_err(io)?;
        let n_votes = known.len();
        let mut kept = self.lock();
        *kept = VoteFile { open: Some((path.to_owned(), file)), known };
        if n_bytes == 0 {
            kept.append(&heading);
        }
        Ok(n_votes)
    }

    /// Deletes the file: its votes are in the tables.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn end(&self) -> Result<(), Error> {
        match std::mem::take(&mut *self.lock()).open {
            Some((path, _)) => {
                std::fs::remove_file(&path).map_err(|source| Error::io(&path, source))
            }
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, VoteFile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The votes of a file below its heading, and the number of their bytes; nothing of a file with
/// another heading.
fn read_votes(file: &File, heading: &Heading) -> (BTreeMap<VoteKey, VoteReply>, u64) {
    let (mut known, mut n_bytes) = (BTreeMap::new(), 0);
    let (mut reader, mut line) = (BufReader::new(file), String::new());
    while reader.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
        if n_bytes == 0 {
            if serde_json::from_str::<Heading>(&line).ok().as_ref() != Some(heading) {
                break;
            }
        } else if let Ok(vote) = serde_json::from_str::<KeptVote>(&line) {
            known.insert((vote.match_id, vote.vote, vote.attempt), vote.reply);
        } else {
            break;
        }
        n_bytes += line.len() as u64;
        line.clear();
    }
    (known, n_bytes)
}

impl VoteFile {
    fn append(&mut self, line: &impl Serialize) {
        let Some((path, file)) = &mut self.open else { return };
        let line = jsonl::to_line(line).map_err(std::io::Error::other);
        if let Err(error) = line.and_then(|line| file.write_all(line.as_bytes())) {
            tracing::warn!(
                file = %path.display(), %error,
                "Votes are no longer kept: an interrupted set will be judged from its beginning."
            );
            self.open = None;
        }
    }
}

/// Passes votes on to the inner judge, unless they are kept.
pub struct KeepingJudge {
    inner: Box<dyn Judge>,
    kept: KeptVotes,
    /// Outcomes of kept votes, until the next poll.
    ready: Vec<VoteOutcome>,
    in_flight: BTreeMap<VoteId, VoteKey>,
}

impl KeepingJudge {
    /// Keeps the votes of a judge.
    pub fn new(inner: Box<dyn Judge>, kept: KeptVotes) -> Self {
        Self { inner, kept, ready: Vec::new(), in_flight: BTreeMap::new() }
    }
}

impl Judge for KeepingJudge {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }

    fn submit(&mut self, request: VoteRequest) {
        let key = (request.match_id.clone(), request.vote, request.attempt);
        match self.kept.lock().known.remove(&key) {
            Some(reply) => self.ready.push((request.id, Ok(reply))),
            None => {
                self.in_flight.insert(request.id, key);
                self.inner.submit(request);
            }
        }
    }

    fn cancel(&mut self, id: VoteId) {
        self.ready.retain(|(ready, _)| *ready != id);
        if self.in_flight.remove(&id).is_some() {
            self.inner.cancel(id);
        }
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        if !self.ready.is_empty() {
            return std::mem::take(&mut self.ready);
        }
        let outcomes = self.inner.poll();
        let mut kept = self.kept.lock();
        for (id, outcome) in &outcomes {
            let key = self.in_flight.remove(id);
            // a vote without a reply may have one next time
            if let (Some((match_id, vote, attempt)), Ok(reply)) = (key, outcome) {
                kept.append(&KeptVote { match_id, vote, attempt, reply: reply.clone() });
            }
        }
        outcomes
    }

    fn is_batch_dependent(&self) -> bool {
        self.inner.is_batch_dependent()
    }

    fn clear_caches(&mut self) {
        self.inner.clear_caches();
    }

    fn chat_model(&mut self) -> Option<&mut dyn ChatModel> {
        self.inner.chat_model()
    }

    fn servers(&self) -> Option<Arc<dyn JudgeServers>> {
        self.inner.servers()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use joust_schema::ids::GroupId;
    use joust_schema::seed::Seed;
    use joust_schema::tables::Verdict;

    use super::*;
    use crate::arena::{GroupRequest, GroupResult};
    use crate::config::RewardConfig;
    use crate::judge::{JudgeError, ScriptedJudge};
    use crate::scorer::Scorer;

    fn groups() -> Vec<GroupRequest> {
        let group = |number: u64| GroupRequest {
            step: 0,
            group_id: GroupId(number.to_string()),
            question: "2+2?".to_owned(),
            completions: (0..6).map(|answer| format!("{number} {answer}")).collect(),
            reference: None,
            seed: Seed::new(number),
            tournament: None,
        };
        (0..5).map(group).collect()
    }

    /// Scores with a judge that fails after `n_replies`; also the number of votes it was asked for.
    fn score(kept: &KeptVotes, n_replies: usize) -> (Vec<GroupResult>, usize) {
        let n_asked = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&n_asked);
        let judge = ScriptedJudge::new(move |request: &VoteRequest| {
            if asked.fetch_add(1, Ordering::Relaxed) >= n_replies {
                return Err(JudgeError::Failed("away".to_owned()));
            }
            let first = request.seed.unit() < 0.5;
            let verdict = if first { Verdict::First } else { Verdict::Second };
            Ok(VoteReply::without_tokens(verdict, format!("{:?}", request.pair)))
        });
        let config = RewardConfig::default();
        let mut scorer = Scorer::with_judge(&config, Some(Box::new(judge)), true);
        scorer.keep_votes(kept.clone());
        let results = scorer.score_all(groups(), &mut || {}).unwrap();
        (results, n_asked.load(Ordering::Relaxed))
    }

    #[test]
    fn votes_that_came_are_asked_for_once_and_give_the_same_results() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("votes.jsonl");
        let (whole, n_whole) = score(&KeptVotes::default(), usize::MAX);
        assert_eq!(KeptVotes::default().begin(&path, "set 3").unwrap(), 0);
        let mut n_kept = 0;
        for n_replies in [0, 7, 7, 1] {
            let kept = KeptVotes::default();
            assert_eq!(kept.begin(&path, "set 3").unwrap(), n_kept);
            assert_ne!(score(&kept, n_replies).0, whole);
            n_kept += n_replies;
            // killed while it wrote
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"{\"match_id\":\"1/").unwrap();
        }
        let kept = KeptVotes::default();
        assert_eq!(kept.begin(&path, "set 3").unwrap(), n_kept);
        let (results, n_asked) = score(&kept, usize::MAX);
        assert_eq!(results, whole);
        assert_eq!(n_asked, n_whole - n_kept);
        assert_eq!(kept.begin(&path, "set 4").unwrap(), 0, "those of another set are of no use");
        kept.end().unwrap();
        assert!(!path.exists());
    }
}
