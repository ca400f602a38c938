//! Groups whose completions arrive shuffled, repeated, late, or never.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn config(incomplete: Incomplete) -> CohortConfig {
    CohortConfig {
        group_size: 3,
        collect: Duration::from_secs(10),
        settle: Duration::from_secs(1),
        retry: Duration::from_secs(30),
        keep: Duration::from_secs(60),
        incomplete,
        max_open: 4,
        max_bytes: 1 << 20,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn content(prompt: &str) -> CohortKey {
    CohortKey::Content(prompt.to_owned())
}

fn given(group: &str) -> CohortKey {
    CohortKey::Given { tenant: String::new(), group: group.to_owned(), attempt: 0 }
}

type Joined<Q> = Result<(Ticket, Vec<CohortEvent<String, Q>>), Problem>;

/// Sends a completion in an HTTP request of its own; an answer goes to the client at once.
fn join<Q: Clone + std::hash::Hash>(
    cohorts: &mut Cohorts<String, Q>,
    now: Duration,
    key: &CohortKey,
    name: Option<MemberName>,
    text: &str,
    question: Q,
) -> Joined<Q> {
    let request = cohorts.n_tickets;
    let new = NewMember::new(key.clone(), name, text.to_owned(), (question, 10), request);
    let joined = cohorts.join(now, new);
    if let Ok((ticket, events)) = &joined
        && matches!(&events[..], [CohortEvent::Answer(..)])
    {
        cohorts.deliver(now, *ticket);
    }
    joined
}

/// Judges a group: the answer of each member is its own completion.
fn judge_by_echo(
    cohorts: &mut Cohorts<String>,
    now: Duration,
    event: &CohortEvent<String>,
) -> Vec<CohortEvent<String>> {
    let CohortEvent::Judge { cohort, members, .. } = event else { panic!("{event:?}") };
    let answers = members.iter().map(|(_, said)| Ok(said.clone())).collect();
    cohorts.finish(now, *cohort, answers)
}

/// As [`judge_by_echo`], and the answers go to the clients.
fn echo(
    cohorts: &mut Cohorts<String>,
    now: Duration,
    event: &CohortEvent<String>,
) -> Vec<CohortEvent<String>> {
    let answers = judge_by_echo(cohorts, now, event);
    for ticket in answered_tickets(&answers) {
        cohorts.deliver(now, ticket);
    }
    answers
}

/// The completions of a complete group.
fn texts(members: &[(Option<MemberName>, String)]) -> Vec<String> {
    members.iter().map(|(_, said)| said.clone()).collect()
}

fn answered(ticket: Ticket, text: &str) -> CohortEvent<String> {
    CohortEvent::Answer(ticket, Ok(text.to_owned()))
}

#[test]
fn cohort_is_judged_with_its_last_member_and_each_request_gets_its_own_answer() {
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    let (a, none) = join(&mut cohorts, at(0), &content("p"), None, "a", ()).unwrap();
    let (other, _) = join(&mut cohorts, at(0), &content("q"), None, "a", ()).unwrap();
    let (b, _) = join(&mut cohorts, at(1), &content("p"), None, "b", ()).unwrap();
    assert_eq!((none, cohorts.n_open()), (vec![], 2));
    let (c, events) = join(&mut cohorts, at(2), &content("p"), None, "c", ()).unwrap();
    let [CohortEvent::Judge { members, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(texts(members), ["a", "b", "c"]);
    let answers = echo(&mut cohorts, at(3), &events[0]);
    assert_eq!(answers, [answered(a, "a"), answered(b, "b"), answered(c, "c")]);
    assert_eq!(cohorts.n_open(), 1);
    // the group of the other prompt is still collected
    let failed = Err(Problem::Incomplete { seen: 1, wanted: 3, within: at(10) });
    assert_eq!(cohorts.tick(at(10)), [CohortEvent::Answer(other, failed)]);
}

/// Tickets of the requests that are answered.
fn answered_tickets(answers: &[CohortEvent<String>]) -> BTreeSet<Ticket> {
    let ticket = |event: &CohortEvent<String>| match event {
        CohortEvent::Answer(ticket, Ok(_)) => *ticket,
        other => panic!("{other:?}"),
    };
    answers.iter().map(ticket).collect()
}

/// The name of a completion, or of a try of it, by its number.
type Naming = fn(u64) -> Option<MemberName>;

/// Names of three tries of one completion: none, the id that stays, an id for each try.
const TRIES: [Naming; 3] = [
    |_| None,
    |_| Some(MemberName::Request("id".to_owned())),
    |attempt| Some(MemberName::Request(format!("id {attempt}"))),
];

#[test]
fn cohort_counts_equal_completions_by_the_requests_that_wait() {
    for name in TRIES {
        let mut cohorts = Cohorts::new(config(Incomplete::Fail));
        let key = content("p");
        let (first, _) = join(&mut cohorts, at(0), &key, name(0), "same", ()).unwrap();
        // the client disconnects and retries
        assert_eq!(cohorts.leave(at(0), first), []);
        let (unseen, events) = join(&mut cohorts, at(1), &key, name(1), "same", ()).unwrap();
        assert!(events.is_empty(), "a retry completes nothing");
        // its retry arrives before the server sees that it has disconnected
        let (again, _) = join(&mut cohorts, at(2), &key, name(2), "same", ()).unwrap();
        let (b, events) = join(&mut cohorts, at(2), &key, None, "b", ()).unwrap();
        assert_eq!(events, [], "two members, and perhaps a third");
        assert_eq!(cohorts.leave(at(2), unseen), []);
        assert_eq!(cohorts.tick(at(9)), [], "two members");
        let (c, events) = join(&mut cohorts, at(9), &key, None, "c", ()).unwrap();
        let [CohortEvent::Judge { members, .. }] = &events[..] else { panic!("{events:?}") };
        let mut seen = texts(members);
        seen.sort();
        assert_eq!(seen, ["b", "c", "same"]);
        let answers = echo(&mut cohorts, at(9), &events[0]);
        assert_eq!(answered_tickets(&answers), [again, b, c].into());
        assert_eq!((cohorts.n_open(), cohorts.memory.n_bytes()), (0, 0));
    }
}

#[test]
fn cohort_of_equal_completions_is_judged_once_it_has_settled() {
    for is_named in [false, true] {
        let mut cohorts = Cohorts::new(config(Incomplete::Fail));
        let name = |id: u64| is_named.then(|| MemberName::Request(id.to_string()));
        for id in 0..3 {
            let (_, events) =
                join(&mut cohorts, at(1), &content("p"), name(id), "same", ()).unwrap();
            assert_eq!(events, []);
        }
        assert_eq!(cohorts.next_deadline(), Some(at(2)));
        let events = cohorts.tick(at(2));
        let [CohortEvent::Judge { members, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!(texts(members), ["same"; 3]);
        assert_eq!(answered_tickets(&echo(&mut cohorts, at(3), &events[0])).len(), 3);
    }
    // completions of one HTTP request, and those with an index, are different samples for sure
    let mut cohorts: Cohorts<String> = Cohorts::new(config(Incomplete::Fail));
    for id in 0..3 {
        let new = NewMember::new(content("p"), None, "same".to_owned(), ((), 0), 7);
        assert_eq!(cohorts.join(at(1), new).unwrap().1.len(), usize::from(id == 2));
        let name = Some(MemberName::Index(id));
        let events = join(&mut cohorts, at(1), &content("q"), name, "same", ()).unwrap().1;
        assert_eq!(events.len(), usize::from(id == 2));
    }
}

#[test]
fn cohort_that_settles_takes_the_member_that_is_missing() {
    for key in [content("p"), given("g")] {
        let mut cohorts = Cohorts::new(config(Incomplete::Fail));
        let (unseen, _) = join(&mut cohorts, at(0), &key, None, "a", ()).unwrap();
        for text in ["b", "a", "c"] {
            assert_eq!(join(&mut cohorts, at(0), &key, None, text, ()).unwrap().1, []);
        }
        let events = cohorts.leave(at(0), unseen);
        let [CohortEvent::Judge { members, .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!(texts(members), ["a", "b", "c"]);
    }
    // where nobody leaves, further members are those of the next group of the same prompt
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    for text in ["a", "b", "a", "c", "a"] {
        join(&mut cohorts, at(0), &content("p"), None, text, ()).unwrap();
    }
    let events = cohorts.tick(at(1));
    let [CohortEvent::Judge { members, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((texts(members), cohorts.n_open()), (["a", "a", "b"].map(str::to_owned).into(), 2));
    let (_, events) = join(&mut cohorts, at(2), &content("p"), None, "d", ()).unwrap();
    let [CohortEvent::Judge { members, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(texts(members), ["a", "c", "d"]);
    // and of a group with a name there is none
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    for text in ["a", "b", "a", "c"] {
        join(&mut cohorts, at(0), &given("g"), None, text, ()).unwrap();
    }
    let events = cohorts.tick(at(1));
    let [CohortEvent::Judge { .. }, CohortEvent::Answer(_, told)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(told, &Err(Problem::GroupClosed));
}

#[test]
fn partial_cohort_is_no_group_of_a_member_and_its_retry() {
    let mut cohorts = Cohorts::new(config(Incomplete::Partial));
    let (unseen, _) = join(&mut cohorts, at(0), &content("p"), None, "a", ()).unwrap();
    let (again, _) = join(&mut cohorts, at(9), &content("p"), None, "a", ()).unwrap();
    assert_eq!(cohorts.tick(at(10)), [], "it settles");
    cohorts.leave(at(10), unseen);
    let failed = Err(Problem::Incomplete { seen: 1, wanted: 3, within: at(10) });
    assert_eq!(cohorts.tick(at(11)), [CohortEvent::Answer(again, failed)]);
}

#[test]
fn cohorts_hold_a_bounded_number_of_bytes() {
    let mut cohorts: Cohorts<String> =
        Cohorts::new(CohortConfig { max_bytes: 100, ..config(Incomplete::Fail) });
    // questions of ten bytes
    join(&mut cohorts, at(0), &content("p"), None, &"a".repeat(200), ()).unwrap();
    let full = Problem::TooManyBytes { limit: 100 };
    assert_eq!(join(&mut cohorts, at(0), &content("q"), None, "b", ()), Err(full.clone()));
    cohorts.tick(at(10));
    join(&mut cohorts, at(10), &content("q"), None, &"b".repeat(80), ()).unwrap();
    assert_eq!(join(&mut cohorts, at(10), &content("q"), None, &"c".repeat(11), ()), Err(full));
    join(&mut cohorts, at(10), &content("q"), None, "c", ()).unwrap();
    let (_, events) = join(&mut cohorts, at(10), &content("q"), None, "d", ()).unwrap();
    assert_eq!((events.len(), cohorts.memory.n_bytes()), (1, 0));
}

#[test]
fn cohort_tells_a_retry_from_a_member_with_the_same_text_while_it_is_judged() {
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    let key = content("p");
    let (first, _) = join(&mut cohorts, at(0), &key, None, "same", ()).unwrap();
    let (second, _) = join(&mut cohorts, at(0), &key, None, "same", ()).unwrap();
    let (third, _) = join(&mut cohorts, at(2), &key, None, "other", ()).unwrap();
    let events = cohorts.tick(at(3));
    // another client disconnects and retries
    cohorts.leave(at(3), second);
    let (again, none) = join(&mut cohorts, at(3), &key, None, "same", ()).unwrap();
    assert_eq!((none, cohorts.n_open()), (vec![], 1));
    let answers = echo(&mut cohorts, at(4), &events[0]);
    assert_eq!(answered_tickets(&answers), [first, again, third].into());
}

#[test]
fn cohort_keeps_an_undelivered_answer_and_begins_a_new_group_after_a_delivered_one() {
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    let key = content("p");
    let (gone, _) = join(&mut cohorts, at(0), &key, None, "a", ()).unwrap();
    for text in ["b", "c"] {
        let (_, events) = join(&mut cohorts, at(0), &key, None, text, ()).unwrap();
        if let [event] = &events[..] {
            cohorts.leave(at(0), gone);
            echo(&mut cohorts, at(1), event);
        }
    }
    let (again, events) = join(&mut cohorts, at(20), &key, None, "a", ()).unwrap();
    assert_eq!(events, [answered(again, "a")]);
    // the next epoch has the same completions: none of them is a retry
    assert_eq!(join(&mut cohorts, at(30), &key, None, "a", ()).unwrap().1, []);
    assert_eq!(join(&mut cohorts, at(30), &key, None, "b", ()).unwrap().1, []);
    assert_eq!(cohorts.n_known(), 2);
    cohorts.tick(at(100));
    assert_eq!(cohorts.n_known(), 0, "answers expire");
    assert_eq!(cohorts.next_deadline(), None);
}

#[test]
fn cohort_adds_a_named_member_once() {
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    let key = given("g");
    let named = |idx| Some(MemberName::Index(idx));
    let (a, _) = join(&mut cohorts, at(0), &key, named(0), "same", ()).unwrap();
    let (b, _) = join(&mut cohorts, at(0), &key, named(1), "same", ()).unwrap();
    // a second request for a member that still waits
    let (twin, _) = join(&mut cohorts, at(0), &key, named(1), "same", ()).unwrap();
    assert_eq!(join(&mut cohorts, at(0), &key, named(1), "else", ()), Err(Problem::MemberDiffers));
    let (c, events) = join(&mut cohorts, at(1), &key, named(2), "c", ()).unwrap();
    let answers = echo(&mut cohorts, at(2), &events[0]);
    let wanted =
        [answered(a, "same"), answered(b, "same"), answered(twin, "same"), answered(c, "c")];
    assert_eq!(answers, wanted);
    // a retry is answered again, a new member is too late, a new attempt begins a new group
    let (again, events) = join(&mut cohorts, at(30), &key, named(2), "c", ()).unwrap();
    assert_eq!(events, [answered(again, "c")]);
    assert_eq!(join(&mut cohorts, at(30), &key, named(3), "d", ()), Err(Problem::GroupClosed));
    let next = CohortKey::Given { tenant: String::new(), group: "g".to_owned(), attempt: 1 };
    assert_eq!(join(&mut cohorts, at(30), &next, named(2), "c", ()).unwrap().1, []);
}

#[test]
fn incomplete_cohorts_end_by_the_policy() {
    for (policy, wanted) in [
        (Incomplete::Fail, Some(Err(Problem::Incomplete { seen: 2, wanted: 3, within: at(10) }))),
        (Incomplete::Mask, Some(Err(Problem::Masked))),
        (Incomplete::Partial, None),
    ] {
        let mut cohorts = Cohorts::new(config(policy));
        let (a, _) = join(&mut cohorts, at(0), &content("p"), None, "a", ()).unwrap();
        let (b, _) = join(&mut cohorts, at(5), &content("p"), None, "b", ()).unwrap();
        assert_eq!(cohorts.next_deadline(), Some(at(10)));
        assert_eq!(cohorts.tick(at(9)), []);
        let events = cohorts.tick(at(10));
        match wanted {
            Some(answer) => {
                let wanted = [a, b].map(|ticket| CohortEvent::Answer(ticket, answer.clone()));
                assert_eq!(events, wanted);
                assert_eq!(cohorts.n_known(), 0);
            }
            None => {
                let answers = echo(&mut cohorts, at(11), &events[0]);
                assert_eq!(answers, [answered(a, "a"), answered(b, "b")]);
            }
        }
        // a single member cannot be compared
        let (alone, _) = join(&mut cohorts, at(20), &content("q"), None, "a", ()).unwrap();
        let events = cohorts.tick(at(30));
        let is_late = |problem: &_| matches!(problem, Problem::Incomplete { .. } | Problem::Masked);
        let told = matches!(&events[..], [CohortEvent::Answer(ticket, Err(problem))]
            if *ticket == alone && is_late(problem));
        assert!(told, "{policy:?}: {events:?}");
    }
}

#[test]
fn open_cohorts_are_bounded_and_make_room_when_they_are_given_up() {
    let mut cohorts: Cohorts<String> = Cohorts::new(config(Incomplete::Fail));
    for prompt in ["a", "b", "c", "d"] {
        join(&mut cohorts, at(0), &content(prompt), None, "x", ()).unwrap();
    }
    assert_eq!(
        join(&mut cohorts, at(0), &content("e"), None, "x", ()),
        Err(Problem::TooManyCohorts)
    );
    // open groups still take members
    join(&mut cohorts, at(0), &content("a"), None, "y", ()).unwrap();
    let (_, events) = join(&mut cohorts, at(0), &content("a"), None, "z", ()).unwrap();
    let [CohortEvent::Judge { cohort, .. }] = &events[..] else { panic!("{events:?}") };
    let told = cohorts.give_up(*cohort, Problem::GivenUp("the queue is full".to_owned()));
    assert_eq!(told.len(), 3);
    let CohortEvent::Answer(_, Err(Problem::GivenUp(reason))) = &told[0] else {
        panic!("{told:?}")
    };
    assert!(reason.contains("full"));
    assert_eq!(join(&mut cohorts, at(1), &content("e"), None, "x", ()).unwrap().1, []);
}

/// How a client sends a member.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Sent,
    /// Sent twice at the same time.
    Doubled,
    /// Sent, given up, sent again.
    Retried,
    Never,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        16 => Just(Fate::Sent),
        2 => Just(Fate::Doubled),
        2 => Just(Fate::Retried),
        1 => Just(Fate::Never),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Groups of named and of unnamed members. An unnamed request that waits twice at once would be
    /// a second member, so those are not doubled. Every complete group is judged once, with its
    /// own members, in any order of arrival; other groups end by the policy; every waiting request
    /// gets an answer.
    #[test]
    fn cohorts_judge_every_complete_group_once_with_its_own_members(
        fates in prop::collection::vec(prop::collection::vec(fate(), 3), 1..8),
        named in any::<bool>(),
        policy in prop_oneof![
            Just(Incomplete::Fail),
            Just(Incomplete::Partial),
            Just(Incomplete::Mask)
        ],
        order in prop::collection::vec(any::<prop::sample::Index>(), 128),
        late_verdicts in any::<bool>(),
    ) {
        let mut cohorts = Cohorts::new(CohortConfig { max_open: 64, ..config(policy) });
        // (group, member, whether the request is given up once it is in)
        let mut requests: Vec<(usize, usize, bool)> = Vec::new();
        let mut whole = BTreeSet::new();
        for (group, fates) in fates.iter().enumerate() {
            let is_sent = |fate: &Fate| !matches!(fate, Fate::Never);
            if fates.iter().all(is_sent) {
                whole.insert(group);
            }
            for (member, fate) in fates.iter().enumerate() {
                match fate {
                    Fate::Never => {}
                    Fate::Doubled if named => requests.extend([(group, member, false); 2]),
                    Fate::Sent | Fate::Doubled => requests.push((group, member, false)),
                    Fate::Retried => requests.push((group, member, true)),
                }
            }
        }
        // members 0 and 1 of a group have the same text
        let said = |group: usize, member: usize| format!("{group}:{}", member.max(1));
        let key = |group: usize| match named {
            true => given(&format!("{group}")),
            false => content(&format!("{group}")),
        };
        let mut judged: BTreeMap<usize, u32> = BTreeMap::new();
        let mut waiting: BTreeMap<Ticket, String> = BTreeMap::new();
        let mut verdicts: Vec<CohortEvent<String>> = Vec::new();
        let mut order = order.into_iter();
        let mut handle = |events: Vec<CohortEvent<String>>,
                          waiting: &mut BTreeMap<Ticket, String>,
                          verdicts: &mut Vec<CohortEvent<String>>| {
            for event in events {
                match event {
                    CohortEvent::Judge { ref members, .. } => {
                        let completions = texts(members);
                        let group = completions[0].split(':').next().unwrap();
                        let group: usize = group.parse().unwrap();
                        let own = |text: &String| text.starts_with(&format!("{group}:"));
                        assert!(completions.iter().all(own), "a foreign member: {completions:?}");
                        *judged.entry(group).or_default() += 1;
                        if completions.len() == 3 {
                            let mut sorted = completions.clone();
                            sorted.sort();
                            assert_eq!(sorted, [said(group, 0), said(group, 1), said(group, 2)]);
                        }
                        verdicts.push(event);
                    }
                    CohortEvent::Answer(ticket, answer) => {
                        let text = waiting.remove(&ticket).expect("a request waits");
                        if let Ok(seen) = answer {
                            assert_eq!(seen, text);
                        }
                    }
                    CohortEvent::Forgotten { .. } => {}
                }
            }
        };
        let mut now = 0;
        while !requests.is_empty() {
            let (group, member, gives_up) = match order.next() {
                Some(index) => requests.swap_remove(index.index(requests.len())),
                None => requests.remove(0),
            };
            let name = named.then_some(MemberName::Index(member as u64));
            let text = said(group, member);
            let key = key(group);
            let (ticket, events) = join(&mut cohorts, at(now), &key, name, &text, ()).unwrap();
            waiting.insert(ticket, text);
            handle(events, &mut waiting, &mut verdicts);
            if gives_up && waiting.remove(&ticket).is_some() {
                let events = cohorts.leave(at(now), ticket);
                handle(events, &mut waiting, &mut verdicts);
                requests.push((group, member, false));
            }
            if !late_verdicts {
                for event in std::mem::take(&mut verdicts) {
                    let events = echo(&mut cohorts, at(now), &event);
                    handle(events, &mut waiting, &mut verdicts);
                }
            }
        }
        // groups that settle first, then those that are incomplete
        for pause in [2, 20, 2] {
            now += pause;
            let events = cohorts.tick(at(now));
            handle(events, &mut waiting, &mut verdicts);
        }
        for event in std::mem::take(&mut verdicts) {
            let events = echo(&mut cohorts, at(now), &event);
            handle(events, &mut waiting, &mut verdicts);
        }
        prop_assert!(waiting.is_empty(), "requests without an answer: {waiting:?}");
        for group in &whole {
            prop_assert_eq!(judged.get(group), Some(&1), "group {}", group);
        }
        if policy != Incomplete::Partial {
            prop_assert_eq!(judged.len(), whole.len());
        }
        prop_assert_eq!(cohorts.n_open(), 0);
        cohorts.tick(at(now + 100));
        prop_assert_eq!((cohorts.n_known(), cohorts.next_deadline()), (0, None));
    }
}

#[test]
fn named_cohort_refuses_another_question() {
    let mut cohorts = Cohorts::<String, u8>::new(config(Incomplete::Fail));
    let key = given("g");
    join(&mut cohorts, at(0), &key, Some(MemberName::Index(0)), "a", 1).unwrap();
    let other = join(&mut cohorts, at(0), &key, Some(MemberName::Index(1)), "b", 2);
    assert_eq!(other.unwrap_err(), Problem::QuestionDiffers);
    join(&mut cohorts, at(0), &key, Some(MemberName::Index(1)), "b", 1).unwrap();
    let (_, events) = join(&mut cohorts, at(0), &key, Some(MemberName::Index(2)), "c", 1).unwrap();
    assert!(matches!(&events[..], [CohortEvent::Judge { members, .. }] if members.len() == 3));
    let other = join(&mut cohorts, at(0), &key, Some(MemberName::Index(2)), "c", 2);
    assert_eq!(other.unwrap_err(), Problem::QuestionDiffers, "also after it was judged");
}

#[test]
fn unnamed_cohort_begins_anew_for_an_index_that_was_answered() {
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    let key = content("p");
    let mut judge_all = |now, said: [&str; 3]| {
        let mut answers = Vec::new();
        for (idx, text) in said.into_iter().enumerate() {
            let name = Some(MemberName::Index(idx as u64));
            let (_, events) = join(&mut cohorts, at(now), &key, name, text, ()).unwrap();
            assert_eq!(events.is_empty(), idx < 2, "index {idx} at {now}");
            if let [event] = &events[..] {
                answers = echo(&mut cohorts, at(now), event);
            }
        }
        answers.len()
    };
    assert_eq!(judge_all(0, ["same", "b", "c"]), 3);
    // the next epoch: one completion is the same
    assert_eq!(judge_all(10, ["same", "d", "e"]), 3);
}

#[test]
fn restored_cohort_answers_retries_of_members_without_an_answer() {
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    let judged = |text: &str| Ok(format!("{text}!"));
    let named = |idx, text| (Some(MemberName::Index(idx)), text, judged(text), false);
    cohorts.restore(at(60), &given("g"), vec![named(0, "a"), named(1, "b"), named(2, "c")]);
    let told = (None, "a", judged("a"), true);
    let untold = (None, "b", judged("b"), false);
    cohorts.restore(at(60), &content("p"), vec![told, untold.clone(), untold]);
    assert_eq!(cohorts.n_open(), 0);
    let (b, events) =
        join(&mut cohorts, at(1), &given("g"), Some(MemberName::Index(1)), "b", ()).unwrap();
    assert_eq!(events, [answered(b, "b!")]);
    let (one, events) = join(&mut cohorts, at(1), &content("p"), None, "b", ()).unwrap();
    assert_eq!(events, [answered(one, "b!")]);
    // a completion that was answered before is no retry: it begins a new group
    let (_, events) = join(&mut cohorts, at(1), &content("p"), None, "a", ()).unwrap();
    assert_eq!((events, cohorts.n_open()), (vec![], 1));
    assert!(cohorts.tick(at(60)).len() == 1 && cohorts.n_known() == 0);
}

/// Sends three completions without names that make a group, and returns their tickets and what is
/// to be judged.
fn join_three(
    cohorts: &mut Cohorts<String>,
    now: Duration,
    key: &CohortKey,
    name: Naming,
) -> ([Ticket; 3], CohortEvent<String>) {
    let mut told = Vec::new();
    let mut tickets = ["a", "b", "c"].into_iter().zip(0..).map(|(text, at)| {
        let (ticket, events) = join(cohorts, now, key, name(at), text, ()).unwrap();
        told = events;
        ticket
    });
    let tickets = std::array::from_fn(|_| tickets.next().unwrap());
    let [event] = &told[..] else { panic!("{told:?}") };
    (tickets, event.clone())
}

#[test]
fn cohort_keeps_an_answer_that_was_sent_to_a_client_that_had_gone() {
    for is_named in [false, true] {
        let name: Naming = match is_named {
            true => |at| Some(MemberName::Request(at.to_string())),
            false => |_| None,
        };
        let mut cohorts = Cohorts::new(config(Incomplete::Fail));
        let key = content("p");
        let ([a, b, c], event) = join_three(&mut cohorts, at(0), &key, name);
        let answers = judge_by_echo(&mut cohorts, at(1), &event);
        assert_eq!(answers, [answered(a, "a"), answered(b, "b"), answered(c, "c")]);
        cohorts.deliver(at(1), b);
        cohorts.deliver(at(1), c);
        assert_eq!(cohorts.leave(at(1), a), [], "the answer went to a closed socket");
        let (again, events) = join(&mut cohorts, at(2), &key, name(7), "a", ()).unwrap();
        assert_eq!((events, cohorts.n_open()), (vec![answered(again, "a")], 0));
        // now it has its answer, as the others have
        for (text, id) in [("a", 8), ("b", 9)] {
            assert_eq!(join(&mut cohorts, at(3), &key, name(id), text, ()).unwrap().1, []);
        }
        assert_eq!(cohorts.n_open(), 1);
    }
}

#[test]
fn retry_that_came_before_its_client_was_seen_to_go_is_brought_back_to_the_judged_group() {
    for (is_over, has_sibling) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut cohorts = Cohorts::new(config(Incomplete::Fail));
        let key = content("p");
        let ([a, b, c], event) = join_three(&mut cohorts, at(0), &key, |_| None);
        let (again, events) = join(&mut cohorts, at(1), &key, None, "a", ()).unwrap();
        assert_eq!((events, cohorts.n_open()), (vec![], 2), "the first request still waits");
        if has_sibling {
            join(&mut cohorts, at(1), &key, None, "z", ()).unwrap();
        }
        let n_left = usize::from(has_sibling);
        let mut answers = BTreeSet::new();
        if is_over {
            judge_by_echo(&mut cohorts, at(2), &event);
            cohorts.deliver(at(2), b);
            cohorts.deliver(at(2), c);
            assert_eq!(cohorts.leave(at(2), a), [answered(again, "a")]);
            cohorts.deliver(at(2), again);
        } else {
            assert_eq!(cohorts.leave(at(2), a), []);
            answers = answered_tickets(&echo(&mut cohorts, at(3), &event));
            assert_eq!(answers, [again, b, c].into());
        }
        assert_eq!((cohorts.n_open(), cohorts.n_collecting()), (n_left, n_left), "{answers:?}");
        assert_eq!(
            cohorts.memory.n_bytes(),
            n_left * 11,
            "a question of ten bytes and a text of one"
        );
        // the result is delivered: the next equal text is another sample
        assert_eq!(join(&mut cohorts, at(4), &key, None, "a", ()).unwrap().1, []);
        assert_eq!(cohorts.n_collecting(), 1);
    }
}

#[test]
fn problem_is_found_by_a_retry_until_the_time_for_retries_is_over() {
    let names: [Naming; 2] = [|_| None, |at| Some(MemberName::Index(at))];
    for name in names {
        let mut cohorts = Cohorts::new(config(Incomplete::Fail));
        let key = content("p");
        let (_, event) = join_three(&mut cohorts, at(0), &key, name);
        let CohortEvent::Judge { cohort, .. } = event else { panic!("{event:?}") };
        let failed = Err(Problem::NoVotes("no vote".to_owned()));
        let answers = vec![failed.clone(), Ok("b".to_owned()), Ok("c".to_owned())];
        for event in cohorts.finish(at(1), cohort, answers) {
            let CohortEvent::Answer(ticket, _) = event else { panic!("{event:?}") };
            cohorts.deliver(at(1), ticket);
        }
        let (again, events) = join(&mut cohorts, at(31), &key, name(0), "a", ()).unwrap();
        assert_eq!(events, [CohortEvent::Answer(again, failed)]);
        // later it is a sample of the next epoch
        assert_eq!(join(&mut cohorts, at(62), &key, name(0), "a", ()).unwrap().1, []);
        assert_eq!(cohorts.n_open(), 1);
    }
}

#[test]
fn group_whose_clients_have_all_gone_is_forgotten() {
    let seconds = Duration::from_secs;
    for key in [content("p"), given("g")] {
        let mut cohorts = Cohorts::new(CohortConfig {
            collect: seconds(600),
            retry: seconds(90),
            ..config(Incomplete::Partial)
        });
        let (a, _) = join(&mut cohorts, at(0), &key, None, "a", ()).unwrap();
        let (b, _) = join(&mut cohorts, at(0), &key, None, "b", ()).unwrap();
        cohorts.leave(at(5), a);
        assert_eq!(cohorts.next_deadline(), Some(at(600)), "one client waits");
        cohorts.leave(at(10), b);
        assert_eq!(cohorts.next_deadline(), Some(at(100)));
        // a retry in time keeps the group, with both members
        assert_eq!(cohorts.tick(at(99)), []);
        let (a, _) = join(&mut cohorts, at(99), &key, None, "a", ()).unwrap();
        assert_eq!(cohorts.next_deadline(), Some(at(600)));
        cohorts.leave(at(110), a);
        assert_eq!(cohorts.next_deadline(), Some(at(200)));
        assert_eq!(cohorts.tick(at(200)), [CohortEvent::Forgotten { n_members: 2 }]);
        assert_eq!((cohorts.n_open(), cohorts.n_known(), cohorts.memory.n_bytes()), (0, 0, 0));
        // the trainer's next run is judged with completions of its own
        let mut told = Vec::new();
        for text in ["d", "e", "f"] {
            told = join(&mut cohorts, at(201), &key, None, text, ()).unwrap().1;
        }
        let [CohortEvent::Judge { members, .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!(texts(members), ["d", "e", "f"]);
    }
}

#[test]
fn equal_text_is_no_retry_of_a_client_that_went_long_ago() {
    let request: Naming = |at| Some(MemberName::Request(at.to_string()));
    let index: Naming = |at| Some(MemberName::Index(at));
    // how a member is named, its name when it comes again, and whether it is found after that time
    let cases: [(Naming, u64, bool); 4] =
        [(|_| None, 0, false), (request, 9, false), (request, 0, true), (index, 0, true)];
    for (name, again, is_found) in cases {
        for is_over in [false, true] {
            let mut cohorts = Cohorts::new(config(Incomplete::Fail));
            let key = content("p");
            let ([a, b, _], event) = join_three(&mut cohorts, at(0), &key, name);
            cohorts.leave(at(1), a);
            cohorts.leave(at(2), b);
            if is_over {
                echo(&mut cohorts, at(20), &event);
            }
            let (_, events) = join(&mut cohorts, at(32), &key, name(again + 1), "b", ()).unwrap();
            assert_eq!((events.len(), cohorts.n_collecting()), (usize::from(is_over), 0));
            let (_, events) = join(&mut cohorts, at(32), &key, name(again), "a", ()).unwrap();
            assert_eq!(events.len(), usize::from(is_over && is_found));
            assert_eq!(cohorts.n_collecting(), usize::from(!is_found), "{again} {is_over}");
        }
    }
}

#[test]
fn equal_text_of_a_named_group_that_was_judged_is_a_retry() {
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    let key = given("g");
    let (_, event) = join_three(&mut cohorts, at(0), &key, |_| None);
    // while it is judged, and although the first request still waits
    let (twin, events) = join(&mut cohorts, at(1), &key, None, "b", ()).unwrap();
    assert_eq!(events, []);
    let answers = echo(&mut cohorts, at(2), &event);
    assert!(answers.contains(&answered(twin, "b")) && answers.len() == 4, "{answers:?}");
    for now in [3, 50] {
        let (again, events) = join(&mut cohorts, at(now), &key, None, "a", ()).unwrap();
        assert_eq!(events, [answered(again, "a")]);
    }
    assert_eq!(join(&mut cohorts, at(51), &key, None, "d", ()), Err(Problem::GroupClosed));
}

#[test]
fn tenant_with_few_groups_opens_one_beside_a_tenant_that_holds_them_all() {
    let mut cohorts: Cohorts<String> = Cohorts::new(config(Incomplete::Fail));
    let mut open = |share: &str, prompt: &str| {
        let new = NewMember::new(content(prompt), None, "x".to_owned(), ((), 0), 1);
        cohorts.join(at(0), new.of_share(share)).map(|_| ())
    };
    for prompt in ["a", "b", "c", "d"] {
        open("one", prompt).unwrap();
    }
    assert_eq!(open("one", "e"), Err(Problem::TooManyCohorts));
    open("other", "f").unwrap();
    assert_eq!(open("other", "g"), Err(Problem::TooManyCohorts));
    assert_eq!(open("third", "h"), Err(Problem::TooManyCohorts), "a quarter more is the limit");
    cohorts.tick(at(10));
    assert_eq!(cohorts.n_open(), 0);
}

#[test]
fn cohorts_count_what_requests_hold_until_they_end() {
    let mut cohorts: Cohorts<String> =
        Cohorts::new(CohortConfig { max_bytes: 100, ..config(Incomplete::Fail) });
    let send = |cohorts: &mut Cohorts<String>, text: &str, held: usize| {
        let request = cohorts.n_tickets;
        let new = NewMember::new(content("p"), None, text.to_owned(), ((), 10), request);
        cohorts.join(at(0), new.holding(held))
    };
    let full = Err(Problem::TooManyBytes { limit: 100 });
    let (a, _) = send(&mut cohorts, "a", 40).unwrap();
    assert_eq!(cohorts.memory.n_bytes(), 51, "question, text, and body");
    assert_eq!(send(&mut cohorts, "b", 49), full);
    let (b, _) = send(&mut cohorts, "b", 48).unwrap();
    cohorts.leave(at(0), b);
    assert_eq!(cohorts.memory.n_bytes(), 52, "the text stays for the retry");
    // a retry holds its body, too
    assert_eq!(send(&mut cohorts, "b", 49), full);
    let (b, _) = send(&mut cohorts, "b", 48).unwrap();
    assert_eq!(send(&mut cohorts, "c", 0), full);
    cohorts.leave(at(0), a);
    let (_, none) = send(&mut cohorts, "a", 38).unwrap();
    assert_eq!(none, [], "the member that it was");
    let (c, events) = send(&mut cohorts, "c", 0).unwrap();
    // the texts are judged, and the bodies are held until they are answered
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(cohorts.memory.n_bytes(), 48 + 38);
    let answers = judge_by_echo(&mut cohorts, at(1), event);
    assert_eq!(answers.len(), 3);
    for ticket in answered_tickets(&answers) {
        match ticket == b {
            true => assert_eq!(cohorts.leave(at(1), ticket), []),
            false => cohorts.deliver(at(1), ticket),
        }
    }
    assert!(answered_tickets(&answers).contains(&c));
    assert_eq!(cohorts.memory.n_bytes(), 0);
    // an answered retry waits for nothing
    assert_eq!(send(&mut cohorts, "b", 1000).unwrap().1.len(), 1);
    assert_eq!(cohorts.memory.n_bytes(), 0);
}

#[test]
fn index_that_comes_again_while_its_group_is_judged_is_one_of_the_next_group() {
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    let index: Naming = |idx| Some(MemberName::Index(idx));
    let (first, event) = join_three(&mut cohorts, at(0), &content("p"), index);
    // the next samples of the same prompt; one has the text of another member
    let mut next = Vec::new();
    let mut events = Vec::new();
    for (idx, text) in [(0, "x"), (1, "c"), (2, "z")] {
        let (ticket, told) =
            join(&mut cohorts, at(1), &content("p"), index(idx), text, ()).unwrap();
        next.push(ticket);
        events = told;
    }
    let [CohortEvent::Judge { members, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(texts(members), ["x", "c", "z"]);
    assert_eq!(cohorts.n_open(), 2);
    // a retry finds its own group: the newest, or the one before
    let (x, told) = join(&mut cohorts, at(2), &content("p"), index(0), "x", ()).unwrap();
    assert_eq!(told, []);
    let (a, told) = join(&mut cohorts, at(2), &content("p"), index(0), "a", ()).unwrap();
    assert_eq!(told, []);
    let of_next = answered_tickets(&echo(&mut cohorts, at(3), &events[0]));
    assert_eq!(of_next, next.into_iter().chain([x]).collect());
    let of_first = answered_tickets(&echo(&mut cohorts, at(3), &event));
    assert_eq!(of_first, first.into_iter().chain([a]).collect());
    // in a group that is collected, and in one with a name, the index is taken
    for key in [content("q"), given("g")] {
        join(&mut cohorts, at(4), &key, index(0), "a", ()).unwrap();
        let other = join(&mut cohorts, at(4), &key, index(0), "b", ());
        assert_eq!(other, Err(Problem::MemberDiffers));
    }
    let (_, event) = join_three(&mut cohorts, at(4), &given("judged"), index);
    let other = join(&mut cohorts, at(4), &given("judged"), index(0), "x", ());
    assert_eq!((other, cohorts.n_collecting()), (Err(Problem::MemberDiffers), 2), "{event:?}");
}

#[test]
fn many_groups_of_one_prompt_are_collected_in_little_more_than_linear_time() {
    // a search through all groups of the prompt would look at 10^9 of them for each naming
    const N: u64 = 20_000;
    let names: [Naming; 3] = [
        |_| None,
        |number| Some(MemberName::Index(number % 3)),
        |number| Some(MemberName::Request(number.to_string())),
    ];
    let began = std::time::Instant::now();
    for (name, has_equal_texts) in names.into_iter().flat_map(|name| [(name, false), (name, true)])
    {
        let mut cohorts: Cohorts<String> = Cohorts::new(config(Incomplete::Fail));
        let mut n_judged = 0;
        for number in 0..3 * N {
            let text = match has_equal_texts {
                true => (number % 3).to_string(),
                false => number.to_string(),
            };
            let key = content("p");
            let (_, events) = join(&mut cohorts, at(0), &key, name(number), &text, ()).unwrap();
            if let [event] = &events[..] {
                // a client goes before its answer, and its retry finds it
                let answers = judge_by_echo(&mut cohorts, at(0), event);
                let tickets = answered_tickets(&answers);
                for (idx, ticket) in tickets.into_iter().enumerate() {
                    match idx {
                        0 => assert_eq!(cohorts.leave(at(0), ticket), []),
                        _ => cohorts.deliver(at(0), ticket),
                    }
                }
                let retried = match has_equal_texts {
                    true => "0".to_owned(),
                    false => (number - 2).to_string(),
                };
                let again = join(&mut cohorts, at(0), &key, name(number - 2), &retried, ());
                let (again, told) = again.unwrap();
                assert_eq!(told, [answered(again, &retried)]);
                n_judged += 1;
            }
        }
        assert_eq!((n_judged, cohorts.n_open(), cohorts.n_collecting()), (N, 0, 0));
        assert_eq!(cohorts.n_known(), N as usize);
        cohorts.tick(at(60));
        assert_eq!((cohorts.n_known(), cohorts.next_deadline()), (0, None));
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }
}

/// A group of two equal completions, which settles, with more members than they in it.
fn settling_with(texts: impl Iterator<Item = String>) -> Cohorts<String> {
    let mut cohorts: Cohorts<String> =
        Cohorts::new(CohortConfig { group_size: 2, ..config(Incomplete::Fail) });
    for text in ["equal", "equal"] {
        let (_, events) = join(&mut cohorts, at(0), &content("p"), None, text, ()).unwrap();
        assert_eq!(events, []);
    }
    let id = cohorts.collecting()[0];
    for text in texts {
        cohorts.memory.take("", text.len());
        let member = CohortMember::new(None, DigestedText::new(text));
        cohorts.cohort_mut(id).members.push(member);
    }
    cohorts
}

#[test]
fn members_beyond_a_group_that_settled_are_judged_in_groups_without_recursion() {
    // by far more than this stack would hold, or quadratic work finish
    const N: usize = 20_000;
    let work = || {
        let began = std::time::Instant::now();
        let mut cohorts = settling_with((0..2 * N - 1).map(|number| number.to_string()));
        let events = cohorts.tick(at(1));
        assert_eq!(events.len(), N);
        let mut seen = BTreeSet::new();
        for event in &events {
            let CohortEvent::Judge { members, .. } = event else { panic!("{event:?}") };
            assert_eq!(members.len(), 2);
            seen.extend(texts(members));
        }
        assert_eq!(seen.len(), 2 * N - 1, "each once, beside the two that are equal");
        // one is left and waits for another
        assert_eq!((cohorts.n_open(), cohorts.n_collecting()), (N + 1, 1));
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    };
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap();
    thread.join().unwrap();
}

#[test]
fn members_beyond_a_group_that_may_be_retries_settle_themselves() {
    let mut cohorts = settling_with(["a", "b"].map(str::to_owned).into_iter());
    // both wait in requests of their own
    for text in ["c", "c", "d"] {
        let (_, events) = join(&mut cohorts, at(0), &content("p"), None, text, ()).unwrap();
        assert_eq!(events, []);
    }
    let texts_of = |events: &[CohortEvent<String>]| {
        let members = |event: &CohortEvent<String>| match event {
            CohortEvent::Judge { members, .. } => texts(members),
            other => panic!("{other:?}"),
        };
        events.iter().map(members).collect::<Vec<_>>()
    };
    assert_eq!(texts_of(&cohorts.tick(at(1))), [["equal", "equal"]]);
    assert_eq!(texts_of(&cohorts.tick(at(2))), [["a", "b"]]);
    assert_eq!(texts_of(&cohorts.tick(at(3))), [["c", "c"]]);
    assert_eq!((cohorts.tick(at(4)), cohorts.n_collecting()), (Vec::new(), 1));
}

#[test]
fn retry_of_a_member_that_the_judge_failed_for_has_its_group_judged_again() {
    for key in [content("p"), given("g")] {
        let mut cohorts = Cohorts::new(config(Incomplete::Fail));
        let (_, event) = join_three(&mut cohorts, at(0), &key, |_| None);
        let CohortEvent::Judge { cohort, members, .. } = event else { panic!("{event:?}") };
        let texts = || members.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
        let lost = || Err(Problem::GivenUp("500".to_owned()));
        let answers = vec![lost(), Ok("b".to_owned()), Err(Problem::NoVotes("9.".to_owned()))];
        let events = cohorts.finish_in_part(at(1), cohort, answers, ((), texts()));
        for event in events {
            let CohortEvent::Answer(ticket, _) = event else { panic!("{event:?}") };
            cohorts.deliver(at(1), ticket);
        }
        assert_eq!((cohorts.n_open(), cohorts.memory.n_bytes()), (0, 13), "the texts are kept");
        // the judge fails again
        let (_, events) = join(&mut cohorts, at(2), &key, None, "a", ()).unwrap();
        let [CohortEvent::Judge { cohort: again, members: same, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((*again, same), (cohort, &members));
        assert!(cohorts.has_answers(cohort) && cohorts.n_open() == 1);
        let answers = vec![lost(); 3];
        let events = cohorts.finish_in_part(at(3), cohort, answers, ((), texts()));
        let [CohortEvent::Answer(ticket, answer)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(answer, &lost());
        cohorts.deliver(at(3), *ticket);
        // and is well the next time
        let (ticket, events) = join(&mut cohorts, at(4), &key, None, "a", ()).unwrap();
        assert!(matches!(events[..], [CohortEvent::Judge { .. }]), "{events:?}");
        let answers = ["a", "other", "c"].map(|text| Ok(text.to_owned())).to_vec();
        assert_eq!(cohorts.finish(at(5), cohort, answers), [answered(ticket, "a")]);
        cohorts.deliver(at(5), ticket);
        assert_eq!((cohorts.n_open(), cohorts.memory.n_bytes()), (0, 0));
        // the judge had read the third and said nothing valid: that stays
        let (ticket, events) = join(&mut cohorts, at(6), &key, None, "c", ()).unwrap();
        let no_votes = Err(Problem::NoVotes("9.".to_owned()));
        assert_eq!(events, [CohortEvent::Answer(ticket, no_votes)]);
        assert_eq!(cohorts.tick(at(70)), []);
        assert_eq!((cohorts.n_known(), cohorts.memory.n_bytes()), (0, 0));
    }
}

#[test]
fn texts_kept_for_another_judging_go_with_their_group() {
    let mut cohorts = Cohorts::new(config(Incomplete::Fail));
    let (_, event) = join_three(&mut cohorts, at(0), &content("p"), |_| None);
    let CohortEvent::Judge { cohort, members, .. } = event else { panic!("{event:?}") };
    let texts = members.into_iter().map(|(_, text)| text).collect();
    let answers = vec![Err(Problem::GivenUp("500".to_owned())); 3];
    cohorts.finish_in_part(at(1), cohort, answers, ((), texts));
    assert_eq!(cohorts.memory.n_bytes(), 13);
    cohorts.tick(at(61));
    assert_eq!((cohorts.n_known(), cohorts.memory.n_bytes()), (0, 0));
}
