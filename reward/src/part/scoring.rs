//! The groups of a step on their way through the parts. They come one by one, in any order; each
//! goes to the parts and to the judge as soon as it may.
//!
//! What is said about a group depends on no other group, so that the results do not depend on when
//! groups come. Two kinds of scorers would make them do so, and have their groups otherwise: a
//! source that may remember groups gets them in the order of the step, and a judge whose replies
//! depend on its batches gets them in portions of places. It does not know how numbers are found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::group::PartGroup;
use super::outcome::PartOutcome;
use super::portions::Portions;
use super::result::PartRoles;
use super::source::{AnswerSender, PartAnswer, PartQuestions, PlacedGroup};
use crate::arena::GroupResult;
use crate::batch::ScoringBatch;
use crate::config::part::JudgeWhen;
use crate::error::Error;
use crate::pool::RatingPool;
use crate::scorer::Scorer;

/// Time between two looks for answers while the end of a step is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// The scoring of a step that is under way. Dropping it gives the step up.
pub struct Scoring<'a> {
    roles: PartRoles<'a>,
    judge: Option<BatchJudge<'a>>,
    /// Queues to the sources; none once no more groups come.
    queues: Vec<SourceQueue>,
    answers: Receiver<PartAnswer>,
    /// Number of answers of sources that are to come, for the groups that have come.
    n_missing: usize,
    places: Vec<ScoringPlace>,
    /// Number of places, from the first, that sources with an order were asked about.
    n_in_order: usize,
    has_begun: bool,
    is_closed: bool,
    is_given_up: Arc<AtomicBool>,
}

/// The judge with the groups of the step.
struct BatchJudge<'a> {
    scorer: &'a mut Scorer,
    batch: ScoringBatch,
    when: JudgeWhen,
    /// The groups that go to the judge in portions; none if the judge takes each when it comes.
    portions: Option<Portions>,
}

/// The way to a source.
pub(super) struct SourceQueue {
    send: Sender<PlacedGroup>,
    needs_order: bool,
}

/// A place in the step.
enum ScoringPlace {
    /// Its group has not come.
    Expected,
    /// It has no group.
    Empty,
    Group {
        group: Arc<PartGroup>,
        /// By part. The judge's own is `NotAsked`, and so are the others until they answer.
        outcomes: Vec<PartOutcome>,
        /// Number of sources that have not answered.
        n_unanswered: usize,
    },
}

/// The ends of a step's channels that its sources take.
pub(super) struct SourceEnds {
    send: Sender<PartAnswer>,
    n_groups: usize,
    max_completions: usize,
    is_given_up: Arc<AtomicBool>,
}

impl SourceEnds {
    /// The channel to the source of a part: its queue, and what the source takes of it.
    pub(super) fn connect(
        &self,
        part_idx: usize,
        needs_order: bool,
    ) -> (SourceQueue, PartQuestions) {
        let (send, groups) = bounded(self.n_groups);
        let is_given_up = Arc::clone(&self.is_given_up);
        let answers = AnswerSender { part_idx, send: self.send.clone(), is_given_up };
        let max_completions = self.max_completions;
        let questions = PartQuestions { groups, answers, max_completions };
        (SourceQueue { send, needs_order }, questions)
    }
}

impl<'a> Scoring<'a> {
    /// A step of `n_groups` places. The sources are connected by the ends, and then added.
    pub(super) fn new(
        roles: PartRoles<'a>,
        scorer: Option<&'a mut Scorer>,
        n_groups: usize,
        group_size: usize,
    ) -> (Self, SourceEnds) {
        let judge = scorer.zip(roles.when_judged()).map(|(scorer, when)| {
            let size = scorer.config().judge.groups_at_once;
            let is_portioned = scorer.is_batch_dependent();
            let portions = is_portioned.then(|| Portions::new(n_groups, size));
            BatchJudge { batch: scorer.begin_batch(), scorer, when, portions }
        });
        // room for whatever may come: nobody waits to send
        let n_answers = n_groups * roles.parts.len();
        let (send, answers) = bounded(n_answers);
        let is_given_up = Arc::new(AtomicBool::new(false));
        let max_completions = n_groups * group_size;
        let ends =
            SourceEnds { send, n_groups, max_completions, is_given_up: Arc::clone(&is_given_up) };
        let scoring = Self {
            roles,
            judge,
            queues: Vec::new(),
            answers,
            n_missing: 0,
            places: (0..n_groups).map(|_| ScoringPlace::Expected).collect(),
            n_in_order: 0,
            has_begun: false,
            is_closed: false,
            is_given_up,
        };
        (scoring, ends)
    }

    pub(super) fn add_source(&mut self, queue: SourceQueue) {
        self.queues.push(queue);
    }

    /// Takes the group of a place, which is counted from 0 in the order of the results.
    ///
    /// # Errors
    /// As [`Scorer::add`].
    pub fn add(&mut self, place: usize, group: PartGroup) -> Result<(), Error> {
        let group = Arc::new(group);
        let outcomes = vec![PartOutcome::NotAsked; self.roles.parts.len()];
        let n_unanswered = self.queues.len();
        self.n_missing += n_unanswered;
        for queue in self.queues.iter().filter(|queue| !queue.needs_order) {
            self.has_begun = true;
            queue.ask((place, Arc::clone(&group)));
        }
        self.places[place] = ScoringPlace::Group { group, outcomes, n_unanswered };
        self.ask_in_order();
        match self.judge.as_ref().map(|judge| judge.when) {
            Some(JudgeWhen::Always) => self.decide(place, true),
            Some(JudgeWhen::Tied) if n_unanswered == 0 => self.decide_if_tied(place),
            Some(JudgeWhen::Tied) | None => Ok(()),
        }
    }

    /// Notes that a place has no group.
    ///
    /// # Errors
    /// As [`Scorer::add`].
    pub fn skip(&mut self, place: usize) -> Result<(), Error> {
        self.places[place] = ScoringPlace::Empty;
        self.ask_in_order();
        self.decide(place, false)
    }

    /// Notes that no more groups come.
    ///
    /// # Errors
    /// As [`Scorer::add`].
    pub fn close(&mut self) -> Result<(), Error> {
        for place in 0..self.places.len() {
            if matches!(self.places[place], ScoringPlace::Expected) {
                self.skip(place)?;
            }
        }
        self.queues.clear();
        self.is_closed = true;
        Ok(())
    }

    /// Whether a source or the judge was asked about a group.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether the judge has groups to work on now.
    pub fn is_judging(&self) -> bool {
        self.judge.as_ref().is_some_and(|judge| judge.batch.n_open() > 0)
    }

    /// Whether all is said about all groups.
    pub fn is_done(&self) -> bool {
        self.is_closed && self.n_missing == 0 && !self.is_judging()
    }

    /// Lets the judge work for a moment, or waits for answers of parts, at most as long as `wait`.
    /// Returns the number of groups that the judge has finished.
    ///
    /// # Errors
    /// As [`Scorer::add`].
    pub fn poll(&mut self, wait: Duration) -> Result<usize, Error> {
        let wait = if self.is_judging() { Duration::ZERO } else { wait };
        self.take_answers(wait)?;
        let n_finished = match &mut self.judge {
            Some(judge) if judge.batch.n_open() > 0 => judge.scorer.pump_batch(&mut judge.batch),
            _ => 0,
        };
        self.begin_portion()?;
        Ok(n_finished)
    }

    /// Waits until all is said, and returns the results in the order of the places that have a
    /// group. Groups that the judge has are rated together, also with those of other processes.
    ///
    /// # Errors
    /// As [`Scorer::add`].
    pub(super) fn finish(mut self, pool: &dyn RatingPool) -> Result<Vec<GroupResult>, Error> {
        self.close()?;
        while !self.is_done() {
            self.poll(LOOK)?;
        }
        let mut judged = match &mut self.judge {
            Some(judge) => std::mem::take(&mut judge.batch).results(judge.scorer.config(), pool)?,
            None => Default::default(),
        };
        let places = std::mem::take(&mut self.places).into_iter().enumerate();
        let result = |(idx, place)| match place {
            ScoringPlace::Group { group, outcomes, .. } => {
                Some(self.roles.result(&group, judged.remove(&idx), outcomes))
            }
            ScoringPlace::Expected | ScoringPlace::Empty => None,
        };
        Ok(places.filter_map(result).collect())
    }

    /// Asks sources with an order about the groups whose turn it is.
    fn ask_in_order(&mut self) {
        while let Some(place) = self.places.get(self.n_in_order) {
            match place {
                ScoringPlace::Expected => return,
                ScoringPlace::Empty => {}
                ScoringPlace::Group { group, .. } => {
                    for queue in self.queues.iter().filter(|queue| queue.needs_order) {
                        self.has_begun = true;
                        queue.ask((self.n_in_order, Arc::clone(group)));
                    }
                }
            }
            self.n_in_order += 1;
        }
    }

    /// Takes the answers that have come; waits for the first one.
    fn take_answers(&mut self, wait: Duration) -> Result<(), Error> {
        if self.n_missing == 0 {
            return Ok(());
        }
        let first = match self.answers.recv_timeout(wait) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                panic!("a part of the reward has ended without an answer. This is a bug.")
            }
        };
        let answers: Vec<PartAnswer> = first.into_iter().chain(self.answers.try_iter()).collect();
        for PartAnswer { part_idx, place, outcome } in answers {
            let ScoringPlace::Group { outcomes, n_unanswered, .. } = &mut self.places[place] else {
                panic!("a part of the reward answers what it was not asked. This is a bug.")
            };
            outcomes[part_idx] = outcome;
            *n_unanswered -= 1;
            let is_decided = *n_unanswered == 0;
            self.n_missing -= 1;
            if is_decided && self.judge.as_ref().is_some_and(|it| it.when == JudgeWhen::Tied) {
                self.decide_if_tied(place)?;
            }
        }
        Ok(())
    }

    fn decide_if_tied(&mut self, place: usize) -> Result<(), Error> {
        let ScoringPlace::Group { group, outcomes, .. } = &self.places[place] else {
            return Ok(());
        };
        let is_tied = self.roles.are_tied(group, outcomes);
        self.decide(place, is_tied)
    }

    /// Takes in whether the judge gets the group of a place.
    fn decide(&mut self, place: usize, is_wanted: bool) -> Result<(), Error> {
        match self.judge.as_mut().map(|judge| &mut judge.portions) {
            Some(Some(portions)) => {
                portions.decide(place, is_wanted);
                self.begin_portion()
            }
            Some(None) if is_wanted => self.ask_judge(place),
            Some(None) | None => Ok(()),
        }
    }

    /// Gives the next portion to the judge, if it is known and the judge has nothing to do.
    fn begin_portion(&mut self) -> Result<(), Error> {
        if self.is_judging() {
            return Ok(());
        }
        let portions = self.judge.as_mut().and_then(|judge| judge.portions.as_mut());
        let portion = portions.and_then(Portions::take_next).unwrap_or_default();
        portion.into_iter().try_for_each(|place| self.ask_judge(place))
    }

    fn ask_judge(&mut self, place: usize) -> Result<(), Error> {
        let (Some(judge), ScoringPlace::Group { group, .. }) =
            (&mut self.judge, &self.places[place])
        else {
            return Ok(());
        };
        self.has_begun = true;
        judge.scorer.add_to_batch(&mut judge.batch, place, group.request.clone())
    }
}

impl Drop for Scoring<'_> {
    fn drop(&mut self) {
        self.is_given_up.store(true, Ordering::Release);
        if let Some(judge) = &mut self.judge {
            judge.scorer.cancel_batch(&mut judge.batch);
        }
    }
}

impl SourceQueue {
    fn ask(&self, group: PlacedGroup) {
        // a source that has ended is noticed by the answers that are missing
        drop(self.send.send(group));
    }
}
