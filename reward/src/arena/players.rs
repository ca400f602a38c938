//! The players of a group: its distinct completions, as the judge sees them.
//!
//! Members with equal completions are one player, because a judge could only guess between them.
//! They share its matches and its rating. This file does not know which players meet.

use std::collections::{BTreeMap, BTreeSet};

use joust_schema::ids::Member;
use joust_schema::seed::Seed;

use crate::index::PlayerIdx;
use crate::prompt::answer;

/// The players of one group.
pub(super) struct Players {
    /// Per player: its completion without the thought.
    answers: Vec<String>,
    /// Per player: a hash of its answer, which keys its draws.
    keys: Vec<u64>,
    first_members: Vec<Member>,
    n_members: Vec<usize>,
    player_of_member: Vec<PlayerIdx>,
}

/// The answers of a group's players, without copies of them.
pub(super) fn distinct_answers<'a>(question: &str, completions: &'a [String]) -> BTreeSet<&'a str> {
    completions.iter().map(|completion| answer(question, completion)).collect()
}

impl Players {
    pub(super) fn of(question: &str, completions: &[String]) -> Self {
        let mut known: BTreeMap<&str, PlayerIdx> = BTreeMap::new();
        let mut answers = Vec::new();
        let mut first_members = Vec::new();
        let mut n_members = Vec::new();
        let mut player_of_member = Vec::with_capacity(completions.len());
        for (member, completion) in completions.iter().enumerate() {
            let answer = answer(question, completion);
            let player = *known.entry(answer).or_insert_with(|| {
                answers.push(answer.to_owned());
                first_members.push(Member(member as u32));
                n_members.push(0);
                PlayerIdx(answers.len() - 1)
            });
            n_members[player.0] += 1;
            player_of_member.push(player);
        }
        let key = |answer: &String| Seed::new(0).child_str("player", answer).0;
        let keys = answers.iter().map(key).collect();
        Self { answers, keys, first_members, n_members, player_of_member }
    }

    /// Number of players.
    pub(super) fn n(&self) -> usize {
        self.answers.len()
    }

    /// The answer that the judge is shown.
    pub(super) fn answer(&self, player: PlayerIdx) -> &str {
        &self.answers[player.0]
    }

    pub(super) fn key(&self, player: PlayerIdx) -> u64 {
        self.keys[player.0]
    }

    /// The keys of all players.
    pub(super) fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// The first member with the player's answer.
    pub(super) fn first_member(&self, player: PlayerIdx) -> Member {
        self.first_members[player.0]
    }

    /// Number of members with the player's answer.
    pub(super) fn n_members(&self, player: PlayerIdx) -> usize {
        self.n_members[player.0]
    }

    /// Per member: its player.
    pub(super) fn of_members(&self) -> &[PlayerIdx] {
        &self.player_of_member
    }
}
