//! Scoring by parts: groups in, rewards with the numbers of each part out.
//!
//! All parts work at the same time, the judge on the caller's thread, each of the others on one of
//! its own. It does not know how a part finds its numbers.

use std::sync::Arc;

use super::open::{OpenKind, OpenPart, judge_of, open_parts};
use super::result::{PartRole, PartRoles};
use super::scoring::Scoring;
use crate::arena::GroupResult;
use crate::config::RewardConfig;
use crate::config::part::Combine;
use crate::error::Error;
use crate::pool::{Alone, RatingPool};
use crate::scorer::Scorer;

/// The open parts of a reward. A reward without parts is that of a [`Scorer`].
pub struct PartScorer {
    parts: Vec<OpenPart>,
    combine: Combine,
    /// The judge; without parts, whatever `reward.kind` says.
    scorer: Option<Scorer>,
    /// Who judges the groups of a step together with this process.
    pool: Arc<dyn RatingPool>,
}

/// Size of a step whose groups are scored.
#[derive(Clone, Copy, Debug)]
pub struct StepSize {
    /// Number of groups, those included that will not come.
    pub n_groups: usize,
    /// Number of completions per group.
    pub group_size: usize,
}

impl PartScorer {
    /// Opens all parts: starts programs, loads the judge.
    ///
    /// # Errors
    /// [`Error::Config`] with all problems of the settings, and for a program that cannot be
    /// started; the errors of loading the judge.
    pub fn open(config: &RewardConfig) -> Result<Self, Error> {
        let problems = config.validate();
        if !problems.is_empty() {
            return Err(Error::Config(problems.join("; ")));
        }
        // a judge takes long to load: a program that cannot be started is told before
        let parts = open_parts(config)?;
        let judge = match parts.is_empty() {
            true => Some(config.clone()),
            false => judge_of(config),
        };
        let scorer = judge.map(|config| Scorer::open(&config, false)).transpose()?;
        Ok(Self { parts, combine: config.combine, scorer, pool: Arc::new(Alone) })
    }

    /// The same, for groups of a step that other processes judge, too: ratings are fitted to the
    /// groups of all.
    pub fn among(self, pool: Arc<dyn RatingPool>) -> Self {
        Self { pool, ..self }
    }

    /// Name of the judge; `None` where no part is one.
    pub fn judge_name(&self) -> Option<&str> {
        self.scorer.as_ref().map(Scorer::judge_name)
    }

    /// Scores the groups of a step while they come: `feed` adds them, and may wait for the end.
    /// Returns the results in the order of their places, which is all that they depend on.
    ///
    /// # Errors
    /// Those of `feed`, which give the step up; as [`Scorer::add`].
    pub fn score<T, E: From<Error>>(
        &mut self,
        size: StepSize,
        feed: impl FnOnce(&mut Scoring<'_>) -> Result<T, E>,
    ) -> Result<(T, Vec<GroupResult>), E> {
        let StepSize { n_groups, group_size } = size;
        let mut sources = Vec::new();
        let mut roles = PartRoles { parts: Vec::new(), combine: self.combine };
        for (part_idx, part) in self.parts.iter_mut().enumerate() {
            let when_judged = part.when_judged();
            let OpenPart { name, weight, is_optional, of } = part;
            let (weight, is_optional) = (*weight, *is_optional);
            roles.parts.push(PartRole { name, weight, is_optional, when_judged });
            if let OpenKind::Source(source) = of {
                sources.push((part_idx, source));
            }
        }
        std::thread::scope(|scope| {
            let (mut scoring, ends) =
                Scoring::new(roles, self.scorer.as_mut(), n_groups, group_size);
            for (part_idx, source) in sources {
                let (queue, questions) = ends.connect(part_idx, source.needs_order());
                scoring.add_source(queue);
                scope.spawn(move || source.score(questions));
            }
            // from here on the sources alone can answer: the end of all of them is noticed
            drop(ends);
            let fed = feed(&mut scoring)?;
            Ok((fed, scoring.finish(&*self.pool)?))
        })
    }
}

#[cfg(test)]
mod tests;
