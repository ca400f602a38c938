//! Index of cohorts: by their keys, and for a prompt with many groups by marks of the members that
//! a completion may be a retry of. A mark may be out of date; whoever follows it checks the member.
//!
//! Knows neither stages nor requests.

use std::collections::{BTreeMap, BTreeSet};

use super::members::MemberMark;
use super::terms::{CohortId, CohortKey};

/// All cohorts by key.
#[derive(Debug, Default)]
pub(super) struct CohortIndex {
    by_key: BTreeMap<CohortKey, KeyedCohorts>,
    /// Number of cohorts that are collected.
    n_collecting: usize,
}

/// The cohorts of one key. Later ones have higher ids.
#[derive(Debug, Default)]
struct KeyedCohorts {
    ids: BTreeSet<CohortId>,
    collecting: BTreeSet<CohortId>,
    by_mark: BTreeMap<MemberMark, BTreeSet<CohortId>>,
}

impl CohortIndex {
    /// Adds a cohort that is not collected.
    pub(super) fn add(&mut self, key: &CohortKey, id: CohortId) {
        self.by_key.entry(key.clone()).or_default().ids.insert(id);
    }

    /// Records whether a cohort is collected.
    pub(super) fn set_collecting(&mut self, key: &CohortKey, id: CohortId, is_collecting: bool) {
        let Some(keyed) = self.by_key.get_mut(key) else { return };
        let is_changed = match is_collecting {
            true => keyed.collecting.insert(id),
            false => keyed.collecting.remove(&id),
        };
        match is_collecting {
            _ if !is_changed => {}
            true => self.n_collecting += 1,
            false => self.n_collecting -= 1,
        }
    }

    /// Removes a cohort, which had these marks.
    pub(super) fn remove(
        &mut self,
        key: &CohortKey,
        id: CohortId,
        marks: impl Iterator<Item = MemberMark>,
    ) {
        self.set_collecting(key, id, false);
        for mark in marks {
            self.unmark(key, id, &mark);
        }
        if let Some(keyed) = self.by_key.get_mut(key) {
            keyed.ids.remove(&id);
            if keyed.ids.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    /// Number of cohorts that are collected.
    pub(super) fn n_collecting(&self) -> usize {
        self.n_collecting
    }

    /// The cohorts of a key, oldest first.
    pub(super) fn ids(&self, key: &CohortKey) -> impl DoubleEndedIterator<Item = CohortId> {
        self.by_key.get(key).into_iter().flat_map(|keyed| keyed.ids.iter().copied())
    }

    /// Those of them that are collected, oldest first.
    pub(super) fn collecting(&self, key: &CohortKey) -> impl DoubleEndedIterator<Item = CohortId> {
        self.by_key.get(key).into_iter().flat_map(|keyed| keyed.collecting.iter().copied())
    }

    /// Marks a cohort.
    pub(super) fn mark(&mut self, key: &CohortKey, id: CohortId, mark: MemberMark) {
        if let Some(keyed) = self.by_key.get_mut(key) {
            keyed.by_mark.entry(mark).or_default().insert(id);
        }
    }

    /// Takes a mark from a cohort, if it has it.
    pub(super) fn unmark(&mut self, key: &CohortKey, id: CohortId, mark: &MemberMark) {
        let Some(keyed) = self.by_key.get_mut(key) else { return };
        if let Some(marked) = keyed.by_mark.get_mut(mark) {
            marked.remove(&id);
            if marked.is_empty() {
                keyed.by_mark.remove(mark);
            }
        }
    }

    /// The newest cohort before `before`, or of all, that has one of the marks.
    pub(super) fn newest_marked(
        &self,
        key: &CohortKey,
        marks: &[MemberMark],
        before: Option<CohortId>,
    ) -> Option<CohortId> {
        let keyed = self.by_key.get(key)?;
        let newest = |marked: &BTreeSet<CohortId>| match before {
            Some(before) => marked.range(..before).next_back().copied(),
            None => marked.last().copied(),
        };
        marks.iter().filter_map(|mark| newest(keyed.by_mark.get(mark)?)).max()
    }
}
