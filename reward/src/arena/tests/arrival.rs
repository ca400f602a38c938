//! Results do not depend on the order in which replies arrive, nor on requests in advance.

use super::*;
use crate::judge::{VoteId, VoteOutcome, VoteReply};
use crate::votes::VoteRule;

type Script = fn(&VoteRequest) -> Result<Verdict, JudgeError>;

/// Replies to the votes that wait in a drawn order, some at a time. A vote that is cancelled may
/// have been finished by then.
struct ShuffledJudge {
    script: Script,
    waiting: Vec<VoteRequest>,
    draw: Seed,
}

impl ShuffledJudge {
    fn draw(&mut self, n: usize) -> usize {
        self.draw = self.draw.child("next", 0);
        (self.draw.unit() * n as f64) as usize
    }
}

impl Judge for ShuffledJudge {
    fn name(&self) -> &str {
        "shuffled"
    }

    fn capacity(&self) -> usize {
        8
    }

    fn submit(&mut self, request: VoteRequest) {
        self.waiting.push(request);
    }

    fn cancel(&mut self, id: VoteId) {
        if self.draw(2) == 0 {
            self.waiting.retain(|request| request.id != id);
        }
    }

    fn poll(&mut self) -> Vec<VoteOutcome> {
        let n = self.draw(self.waiting.len()) + 1;
        let mut outcomes = Vec::new();
        for _ in 0..n.min(self.waiting.len()) {
            let at = self.draw(self.waiting.len());
            let request = self.waiting.swap_remove(at);
            let reply = (self.script)(&request)
                .map(|verdict| VoteReply::without_tokens(verdict, format!("{verdict:?}")));
            outcomes.push((request.id, reply));
        }
        outcomes
    }
}

fn first(_: &VoteRequest) -> Result<Verdict, JudgeError> {
    Ok(Verdict::First)
}

/// Prefers the first position, and gives no verdict in odd votes.
fn first_or_nothing(request: &VoteRequest) -> Result<Verdict, JudgeError> {
    Ok(if request.vote.is_multiple_of(2) { Verdict::First } else { Verdict::Invalid })
}

/// Prefers the larger number or the first position, and fails now and then.
fn moody(request: &VoteRequest) -> Result<Verdict, JudgeError> {
    match request.seed.child("mood", 0).unit() {
        draw if draw < 0.15 => Ok(Verdict::Invalid),
        draw if draw < 0.2 => Err(JudgeError::Failed("gone".to_owned())),
        draw if draw < 0.23 => Err(JudgeError::Refused("no".to_owned())),
        draw if draw < 0.5 => Ok(Verdict::First),
        _ => noisy(request),
    }
}

fn shuffled(
    rule: &VoteRule,
    kind: TournamentKind,
    n: usize,
    script: Script,
    draw: u64,
) -> GroupResult {
    let mut config = config(kind, 1);
    config.tournament.votes = rule.clone();
    let waiting = Vec::new();
    play(&config, &mut ShuffledJudge { script, waiting, draw: Seed::new(draw) }, &numbers(n))
}

const STOPS: [Stop; 4] = [Stop::Never, Stop::Majority, Stop::Lead, Stop::Posterior];

proptest! {
    #[test]
    fn results_do_not_depend_on_the_order_of_arrival(
        kind in prop::sample::select(&KINDS[..]),
        stop in prop::sample::select(&STOPS[..]),
        script in prop::sample::select(&[moody as Script, noisy, first, first_or_nothing][..]),
        (max, lead, ahead) in (1u32..12, 1u32..5, 0u32..9),
        n in 2usize..7,
        draws in any::<[u64; 3]>(),
    ) {
        let rule = VoteRule { max, stop, lead, ahead, ..VoteRule::default() };
        let one = shuffled(&rule, kind, n, script, draws[0]);
        prop_assert_eq!(&one, &shuffled(&rule, kind, n, script, draws[1]));
        // requests in advance spare time, and change nothing
        let patient = VoteRule { ahead: 0, ..rule };
        prop_assert_eq!(&one, &shuffled(&patient, kind, n, script, draws[2]));
    }

    #[test]
    fn a_match_ends_early_only_after_whole_pairs_that_prefer_one_side(
        stop in prop::sample::select(&STOPS[..]),
        (script, has_opinion) in prop::sample::select(
            &[(moody as Script, true), (first, false), (first_or_nothing, false)][..]
        ),
        (max, lead, ahead) in (1u32..12, 1u32..5, 0u32..9),
        draw in any::<u64>(),
    ) {
        let rule = VoteRule { max, stop, lead, ahead, ..VoteRule::default() };
        let result = shuffled(&rule, TournamentKind::RoundRobin, 4, script, draw);
        for row in &result.matches {
            let n_votes = (row.votes_a + row.votes_b + row.votes_invalid) as u32;
            prop_assert_eq!(row.decided_early, n_votes < max);
            if !row.decided_early {
                continue;
            }
            prop_assert!(n_votes.is_multiple_of(2) && stop != Stop::Never);
            // the place alone ends no match, with or without votes that stay invalid
            prop_assert!(has_opinion, "{row:?}");
            let of_match = result.votes.iter().filter(|vote| vote.match_id == row.match_id);
            let mut for_a = BTreeMap::new();
            for vote in of_match {
                // the last attempt counts
                for_a.insert(vote.vote, vote.verdict.for_a(vote.a_shown_first));
            }
            let votes: Vec<Option<bool>> = for_a.into_values().collect();
            let net = |pair: &[Option<bool>]| match (pair[0], pair[1]) {
                (Some(one), Some(other)) => 2 * (i32::from(one) + i32::from(other)) - 2,
                _ => 0,
            };
            let ahead: i32 = votes.chunks(2).map(net).sum();
            prop_assert!(ahead != 0, "{votes:?}");
            if stop == Stop::Lead {
                prop_assert!(ahead.unsigned_abs() >= lead);
            }
        }
    }
}

#[test]
fn retry_in_flight_does_not_let_later_votes_decide() {
    // the first vote needs a second attempt, which arrives last; by then one side has four votes
    let script: Script = |request| match (request.vote, request.attempt) {
        (0, 0) => Ok(Verdict::Invalid),
        (0, _) => larger(request).map(|verdict| match verdict {
            Verdict::First => Verdict::Second,
            _ => Verdict::First,
        }),
        _ => larger(request),
    };
    let rule = VoteRule { max: 9, stop: Stop::Lead, lead: 2, ahead: 4, ..VoteRule::default() };
    for draw in 0..20 {
        let result = shuffled(&rule, TournamentKind::RoundRobin, 2, script, draw);
        let [row] = &result.matches[..] else { panic!() };
        // one pair is split, the next prefers the larger number
        assert_eq!(row.votes_a.min(row.votes_b), 1);
        assert_eq!(row.votes_a.max(row.votes_b), 3);
        assert_eq!(result.votes.len(), 5);
    }
}
