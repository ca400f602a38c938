//! Members of a cohort: which completion is another sample, and which a retry of one.
//!
//! A member with an index is told apart by it. Any other member is told apart by its text and by
//! the requests that wait: a text counts as many members as requests with it wait at the same time,
//! and one member if none of them waits any more. So equal texts of different samples are different
//! members, and a client that gave up and sent its completion again is the member that it was. A
//! request id finds its member; an unknown id with the text of a member whose clients have all gone
//! takes that member over, because proxies give each try an id of its own.
//!
//! Knows no time and no other cohort.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use super::terms::{CohortKey, MemberAnswer, MemberName, Ticket};
use crate::problem::Problem;

/// Hash of a completion.
type Digest = [u8; 16];

/// Number of bytes of a text that are compared to sort it.
const MAX_COMPARED_BYTES: usize = 4096;

/// Number of an HTTP request: completions of one request are different samples.
pub(crate) type RequestNumber = u64;

/// A completion with its hash, by which retries are recognised.
#[derive(Clone, Debug)]
pub(crate) struct DigestedText {
    text: String,
    digest: Digest,
}

impl DigestedText {
    pub(crate) fn new(text: String) -> Self {
        let hash = blake3::hash(text.as_bytes());
        let digest = hash.as_bytes()[..16].try_into();
        Self { text, digest: digest.expect("a hash has 32 bytes. This is a bug.") }
    }

    /// Size of the text.
    pub(super) fn n_bytes(&self) -> usize {
        self.text.len()
    }
}

/// A completion that arrives. Hashes are made before the cohorts are locked.
#[derive(Clone, Debug)]
pub(crate) struct NewMember<Q> {
    pub(super) key: CohortKey,
    pub(super) name: Option<MemberName>,
    pub(super) completion: DigestedText,
    pub(super) question: Q,
    pub(super) question_hash: u64,
    /// Size of the question.
    pub(super) question_bytes: usize,
    pub(super) request: RequestNumber,
}

impl<Q: Hash> NewMember<Q> {
    /// `question` comes with its size; `request` is the number of the HTTP request that the
    /// completion came with.
    pub(crate) fn new(
        key: CohortKey,
        name: Option<MemberName>,
        completion: String,
        (question, question_bytes): (Q, usize),
        request: RequestNumber,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        question.hash(&mut hasher);
        let (completion, question_hash) = (DigestedText::new(completion), hasher.finish());
        Self { key, name, completion, question, question_hash, question_bytes, request }
    }
}

/// A member of a cohort.
#[derive(Debug)]
pub(super) struct CohortMember<R> {
    name: Option<MemberName>,
    /// The text is empty once the group is being judged.
    completion: DigestedText,
    /// Requests that wait for the member's answer.
    waiting: Vec<(Ticket, RequestNumber)>,
    pub(super) answer: Option<MemberAnswer<R>>,
    /// Whether a request got the answer.
    pub(super) is_delivered: bool,
}

impl<R> CohortMember<R> {
    /// A member for which no request waits yet.
    pub(super) fn new(name: Option<MemberName>, completion: DigestedText) -> Self {
        Self { name, completion, waiting: Vec::new(), answer: None, is_delivered: false }
    }

    /// A member of a judged group; of its completion only the hash is needed.
    pub(super) fn judged(
        name: Option<MemberName>,
        mut completion: DigestedText,
        answer: MemberAnswer<R>,
        is_delivered: bool,
    ) -> Self {
        completion.text = String::new();
        Self { name, completion, waiting: Vec::new(), answer: Some(answer), is_delivered }
    }

    fn has_index(&self) -> bool {
        matches!(self.name, Some(MemberName::Index(_)))
    }

    /// Whether its clients have all gone without an answer.
    fn is_vacant(&self) -> bool {
        self.waiting.is_empty() && !self.is_delivered
    }

    /// What the members of a complete group are sorted by: the order does not depend on that of
    /// arrival. Of a text only the beginning is compared, because others wait meanwhile.
    pub(super) fn order(&self) -> (&Option<MemberName>, &[u8], &Digest) {
        let text = self.completion.text.as_bytes();
        (&self.name, &text[..text.len().min(MAX_COMPARED_BYTES)], &self.completion.digest)
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.completion.n_bytes()
    }

    /// Name and text, for the judge; only the hash stays.
    pub(super) fn take_text(&mut self) -> (Option<MemberName>, String) {
        (self.name.clone(), std::mem::take(&mut self.completion.text))
    }

    pub(super) fn wait(&mut self, ticket: Ticket, request: RequestNumber) {
        self.waiting.push((ticket, request));
    }

    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.waiting.iter().map(|(ticket, _)| *ticket)
    }

    /// Takes the requests that wait.
    pub(super) fn take_tickets(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.waiting).into_iter().map(|(ticket, _)| ticket).collect()
    }

    /// Removes a request whose client has gone.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
    }

    /// The newest request takes a member over whose clients have gone.
    pub(super) fn take_over(&mut self, name: Option<MemberName>) {
        if !self.has_index() {
            self.name = name;
        }
    }
}

/// What a completion is among the members of a group.
pub(super) enum Membership {
    /// A retry of the member at this index.
    Retry(usize),
    /// A new member, or one of another group.
    New,
}

/// Looks for the member that a completion is a retry of. `is_over` for a judged group, in which a
/// name may come again with another completion; `may_be_new` if a member of this name may belong to
/// a later group once it was answered.
///
/// # Errors
/// [`Problem::MemberDiffers`]
pub(super) fn place<R>(
    members: &[CohortMember<R>],
    name: Option<&MemberName>,
    completion: &DigestedText,
    (is_over, may_be_new): (bool, bool),
) -> Result<Membership, Problem> {
    let is_same = |member: &CohortMember<R>| member.completion.digest == completion.digest;
    let by_name = |name| members.iter().position(|member| member.name.as_ref() == Some(name));
    if let Some(idx) = name.and_then(by_name) {
        return match &members[idx] {
            member if may_be_new && member.is_delivered => Ok(Membership::New),
            member if is_same(member) => Ok(Membership::Retry(idx)),
            _ if is_over => Ok(Membership::New),
            _ => Err(Problem::MemberDiffers),
        };
    }
    if matches!(name, Some(MemberName::Index(_))) {
        return Ok(Membership::New);
    }
    let is_abandoned =
        |member: &CohortMember<R>| !member.has_index() && is_same(member) && member.is_vacant();
    Ok(members.iter().position(is_abandoned).map_or(Membership::New, Membership::Retry))
}

/// Whether a member whose client has just gone is counted by another member with the same text: its
/// retry came before its end was seen, or will come as a member of its own.
pub(super) fn is_counted_twice<R>(members: &[CohortMember<R>], idx: usize) -> bool {
    let gone = &members[idx];
    let is_twin = |(at, other): (usize, &CohortMember<R>)| {
        at != idx && !other.has_index() && other.completion.digest == gone.completion.digest
    };
    !gone.has_index() && gone.is_vacant() && members.iter().enumerate().any(is_twin)
}

/// Whether two members are told apart only by the requests that wait: one of the clients may have
/// gone, and the other request be its retry.
pub(super) fn has_unsure_twins<R>(members: &[CohortMember<R>]) -> bool {
    let mut seen = BTreeMap::new();
    let unnamed = members.iter().filter(|member| !member.has_index());
    unnamed.into_iter().any(|member| {
        let request = member.waiting.last().map(|(_, request)| *request);
        let before = seen.insert(member.completion.digest, request);
        before.is_some_and(|before| before != request)
    })
}
