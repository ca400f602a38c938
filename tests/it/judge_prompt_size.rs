//! Texts of any size at the judge in the process: those that cannot fit into its context are
//! refused by their size, before a token of them is made.

use joust_engine::{Engine, EngineConfig};
use joust_reward::JudgeConfig;
use joust_reward::judge::{
    ChatId, ChatModel as _, ChatRequest, EngineJudge, Judge as _, JudgeError, ShownPair, VoteId,
    VoteRequest,
};
use joust_schema::ids::MatchId;
use joust_schema::prompt::Message;
use joust_schema::seed::Seed;

use crate::binary::root;

fn vote(id: u64, answer: &str) -> VoteRequest {
    VoteRequest {
        id: VoteId(id),
        match_id: MatchId("g/1-0-1".to_owned()),
        pair: ShownPair::new("g", 0, 1),
        vote: 0,
        attempt: 0,
        question: "2+2?".to_owned(),
        answer_first: answer.to_owned(),
        answer_second: "5".to_owned(),
        reference: None,
        seed: Seed::new(1),
    }
}

fn chat(text: &str) -> ChatRequest {
    ChatRequest {
        messages: vec![Message::new("user", text)],
        max_tokens: Some(1),
        temperature: None,
        top_p: None,
        stop: Vec::new(),
        seed: Seed::new(1),
    }
}

#[test]
fn texts_that_cannot_fit_are_refused_by_their_size_and_others_by_their_tokens() {
    let engine =
        Engine::open(&root().join("data/models/nano-rrm"), &EngineConfig::default()).unwrap();
    let limit = engine.max_context() - 1;
    // the longest token has 611 bytes, as the vocabulary writes them
    let most = limit * 611;
    let config = JudgeConfig { max_thinking_tokens: 1, ..JudgeConfig::default() };
    let mut judge = EngineJudge::new(engine, "nano-rrm", &config).unwrap();
    let refusal = |outcome: Result<(), JudgeError>| match outcome {
        Err(JudgeError::Refused(reason)) => reason,
        other => panic!("{other:?}"),
    };
    // question and second answer have five bytes
    let fits_by_size = "a".repeat(most - 5);
    let texts = [format!("{fits_by_size}a"), fits_by_size, "4".to_owned() + &" ".repeat(most)];
    let mut reasons = Vec::new();
    for (id, text) in (0..).zip(&texts[..2]) {
        judge.submit(vote(id, text));
        let (_, outcome) = judge.poll().remove(0);
        reasons.push(refusal(outcome.map(drop)));
        // a chat has the text of its template, too
        let said = if id == 0 { text.repeat(2) } else { text[..most / 2].to_owned() };
        reasons.push(refusal(judge.submit_chat(ChatId(id), chat(&said))));
    }
    let by_size = format!("more than {limit} tokens");
    let [vote_by_size, chat_by_size, vote_by_tokens, chat_by_tokens] = &reasons[..] else {
        panic!("{reasons:?}");
    };
    for reason in [vote_by_size, chat_by_size] {
        assert!(reason.contains(&by_size), "{reason}");
    }
    for reason in [vote_by_tokens, chat_by_tokens] {
        assert!(reason.contains(" tokens, the context holds"), "{reason}");
    }
    for reason in &reasons {
        assert!(reason.ends_with("shorten it or raise max_context"), "{reason}");
    }
    // blanks around an answer are not counted: a template may leave them out
    judge.submit(vote(9, &texts[2]));
    let mut outcomes = judge.poll();
    while outcomes.is_empty() {
        outcomes = judge.poll();
    }
    if let Err(JudgeError::Refused(reason)) = &outcomes[0].1 {
        assert!(!reason.contains(&by_size), "{reason}");
    }
}
