//! Members of a cohort: which completion is another sample, and which a retry of one.
//!
//! A member with an index is told apart by it. Any other member is told apart by its text and by
//! the requests that wait: a text counts as many members as requests with it wait at the same time,
//! and one member if none of them waits any more. So equal texts of different samples are different
//! members, and a client that gave up and sent its completion again is the member that it was. A
//! request id finds its member; an unknown id with the text of a member whose clients have all gone
//! takes that member over, because proxies give each try an id of its own.
//!
//! In a group that is collected, a member is taken over however long ago its clients went: it would
//! count twice. In a judged group only a recent one is: later, an equal text is another sample.
//!
//! Knows no clock and no other cohort.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::time::Duration;

use super::terms::{CohortKey, MemberAnswer, MemberName, Ticket};
use crate::problem::Problem;

/// Hash of a completion.
pub(super) type Digest = [u8; 16];

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

/// A trait of a member by which the group of a retry is found among the groups of its prompt that
/// are not collected any more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MemberMark {
    /// The name of a member that is judged.
    Name(MemberName),
    /// Name and text of a member.
    Copy(MemberName, Digest),
    /// Text of a member without an index whose clients have gone.
    Vacant(Digest),
}

/// The marks by which a completion finds the member that it may be a retry of.
pub(super) fn marks_of(name: Option<&MemberName>, completion: &DigestedText) -> Vec<MemberMark> {
    let digest = completion.digest;
    match name {
        Some(name @ MemberName::Index(_)) => vec![MemberMark::Copy(name.clone(), digest)],
        Some(name) => vec![
            MemberMark::Name(name.clone()),
            MemberMark::Copy(name.clone(), digest),
            MemberMark::Vacant(digest),
        ],
        None => vec![MemberMark::Vacant(digest)],
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
    /// Whose share of the server the completion takes.
    pub(super) share: String,
    /// Size of what its request holds beside the completion while it waits.
    pub(super) held_bytes: usize,
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
        let (share, held_bytes) = (String::new(), 0);
        Self {
            key,
            name,
            completion,
            question,
            question_hash,
            question_bytes,
            request,
            share,
            held_bytes,
        }
    }

    /// The completion as one of a client with this share of the server.
    pub(crate) fn of_share(self, share: &str) -> Self {
        Self { share: share.to_owned(), ..self }
    }

    /// The completion as one whose request holds so many bytes beside it while it waits.
    pub(crate) fn holding(self, held_bytes: usize) -> Self {
        Self { held_bytes, ..self }
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
    /// Whether a client got a result. A problem does not count: a retry finds it.
    is_delivered: bool,
    /// Time at which the last request ended that waited.
    vacant_since: Duration,
}

impl<R> CohortMember<R> {
    /// A member for which no request waits yet.
    pub(super) fn new(name: Option<MemberName>, completion: DigestedText) -> Self {
        Self {
            name,
            completion,
            waiting: Vec::new(),
            answer: None,
            is_delivered: false,
            vacant_since: Duration::ZERO,
        }
    }

    /// A member of a judged group; of its completion only the hash is needed.
    pub(super) fn judged(
        name: Option<MemberName>,
        mut completion: DigestedText,
        answer: MemberAnswer<R>,
        is_delivered: bool,
    ) -> Self {
        completion.text = String::new();
        Self { answer: Some(answer), is_delivered, ..Self::new(name, completion) }
    }

    /// All marks that the member has or may have had, under its name.
    pub(super) fn marks(&self) -> Vec<MemberMark> {
        marks_of(self.name.as_ref(), &self.completion)
    }

    /// Whether the member still has a mark, or will have it again without being marked anew.
    pub(super) fn has_mark(&self, mark: &MemberMark, rules: RetryRules) -> bool {
        match mark {
            MemberMark::Name(name) => !rules.is_over && self.name.as_ref() == Some(name),
            MemberMark::Copy(name, digest) => {
                let is_done = rules.may_be_new && self.is_settled_since(rules.since);
                self.name.as_ref() == Some(name) && self.completion.digest == *digest && !is_done
            }
            MemberMark::Vacant(digest) => {
                let is_recent = self.is_vacant() && self.vacant_since >= rules.since;
                !self.has_index() && self.completion.digest == *digest && is_recent
            }
        }
    }

    fn has_index(&self) -> bool {
        matches!(self.name, Some(MemberName::Index(_)))
    }

    /// Whether its clients have all gone without a result.
    fn is_vacant(&self) -> bool {
        !self.is_waited_for() && !self.is_delivered
    }

    /// Whether its client wants nothing more: it has the result, or has the problem since a time
    /// before `since`.
    fn is_settled_since(&self, since: Duration) -> bool {
        let has_failed = matches!(self.answer, Some(Err(_)));
        self.is_delivered || (has_failed && !self.is_waited_for() && self.vacant_since < since)
    }

    pub(super) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a request waits for `copy` that may be a retry of this member, whose clients have
    /// gone.
    pub(super) fn may_be_retried_by(&self, copy: &Self) -> bool {
        let is_unnamed = !self.has_index() && !copy.has_index();
        let is_same = self.completion.digest == copy.completion.digest;
        is_unnamed && is_same && self.is_vacant() && copy.is_waited_for()
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

    /// Keeps a text that was taken, for another judging.
    pub(super) fn put_text(&mut self, text: String) {
        self.completion.text = text;
    }

    /// Whether the judge, or the way to it, failed for this member: another judging may not.
    pub(super) fn is_lost(&self) -> bool {
        let is_final = |problem: &Problem| {
            matches!(problem, Problem::NoVotes(_) | Problem::Invalid(_) | Problem::GroupClosed)
        };
        matches!(&self.answer, Some(Err(problem)) if !is_final(problem))
    }

    pub(super) fn wait(&mut self, ticket: Ticket, request: RequestNumber) {
        self.waiting.push((ticket, request));
    }

    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.waiting.iter().map(|(ticket, _)| *ticket)
    }

    /// Takes the requests that wait, and the name under which they came.
    pub(super) fn take_requests(&mut self) -> (Option<MemberName>, Vec<(Ticket, RequestNumber)>) {
        (self.name.clone(), std::mem::take(&mut self.waiting))
    }

    /// Removes a request whose client has gone.
    pub(super) fn leave(&mut self, now: Duration, ticket: Ticket) {
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
        self.vacant_since = now;
    }

    /// Removes a request whose client got the answer.
    pub(super) fn deliver(&mut self, now: Duration, ticket: Ticket) {
        self.leave(now, ticket);
        self.is_delivered |= matches!(self.answer, Some(Ok(_)));
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

/// Which members a completion without a known name may be a retry of, by its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TextMatch {
    /// Those whose clients have all gone.
    Vacant,
    /// Those whose clients have all gone lately.
    RecentlyVacant,
    /// All: the group takes no other member any more.
    Any,
}

/// How retries are recognised among the members of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetryRules {
    /// Whether a name may come again with another completion: that of a later group.
    pub(super) is_over: bool,
    /// Whether a member of this name may belong to a later group once it was answered.
    pub(super) may_be_new: bool,
    pub(super) by_text: TextMatch,
    /// Time before which clients have not gone lately.
    pub(super) since: Duration,
}

/// Looks for the member that a completion is a retry of.
///
/// # Errors
/// [`Problem::MemberDiffers`]
pub(super) fn place<R>(
    members: &[CohortMember<R>],
    name: Option<&MemberName>,
    completion: &DigestedText,
    rules: RetryRules,
) -> Result<Membership, Problem> {
    let RetryRules { is_over, may_be_new, by_text, since } = rules;
    let is_same = |member: &CohortMember<R>| member.completion.digest == completion.digest;
    let by_name = |name| members.iter().position(|member| member.name.as_ref() == Some(name));
    if let Some(idx) = name.and_then(by_name) {
        return match &members[idx] {
            member if may_be_new && member.is_settled_since(since) => Ok(Membership::New),
            member if is_same(member) => Ok(Membership::Retry(idx)),
            _ if is_over => Ok(Membership::New),
            _ => Err(Problem::MemberDiffers),
        };
    }
    if matches!(name, Some(MemberName::Index(_))) {
        return Ok(Membership::New);
    }
    let find = |may_be: &dyn Fn(&CohortMember<R>) -> bool| {
        let is_found =
            |member: &CohortMember<R>| !member.has_index() && is_same(member) && may_be(member);
        members.iter().position(is_found)
    };
    let vacant = || find(&CohortMember::is_vacant);
    let found = match by_text {
        TextMatch::Vacant => vacant(),
        TextMatch::RecentlyVacant => {
            find(&|member| member.is_vacant() && member.vacant_since >= since)
        }
        TextMatch::Any => vacant().or_else(|| find(&|_| true)),
    };
    Ok(found.map_or(Membership::New, Membership::Retry))
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
