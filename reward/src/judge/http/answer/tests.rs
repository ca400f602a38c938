//! Answers in the forms of vLLM, SGLang, Mistral, gateways and servers with gaps.

use joust_schema::tables::Verdict;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const THOUGHT: &str = "The second.";
const BOX: &str = "\\boxed{Assistant 2}";

fn whole() -> String {
    format!("<think>\n{THOUGHT}\n</think>\n\n{BOX}")
}

/// The reply to one vote.
fn reply(body: &Value) -> Result<VoteReply, BadAnswer> {
    let mut replies = ChatCompletion::read(body)?.into_replies(1, 1.0, SentThought::Expected);
    Ok(replies.remove(0))
}

fn of_message(message: Value) -> Result<VoteReply, BadAnswer> {
    reply(&json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
}

#[test]
fn answers_that_the_server_ended_are_no_answers() {
    let of_reason = |finish: Value| {
        let message = json!({"content": whole()});
        reply(&json!({"choices": [{"message": message, "finish_reason": finish}]}))
    };
    let broken_off = [
        "abort",
        "error",
        "Cancelled",
        "insufficient_system_resource",
        "network_error",
        "repetition_truncation",
    ];
    for finish in broken_off {
        let Err(BadAnswer::Defect(reason)) = of_reason(json!(finish)) else { panic!("{finish}") };
        assert!(reason.contains("finish_reason"), "{reason}");
    }
    let wholes = ["stop", "STOP", "eos", "eos_token", "stop_sequence", "end_turn", "tool_calls"];
    for finish in wholes.map(Value::from).into_iter().chain([json!(null), json!("")]) {
        let reply = of_reason(finish).unwrap();
        assert_eq!((reply.verdict, reply.is_cut_off), (Verdict::Second, false));
    }
    for finish in ["length", "MAX_TOKENS", "model_length", "model_context_window_exceeded"] {
        let reply = of_reason(json!(finish)).unwrap();
        assert_eq!((reply.verdict, reply.is_cut_off), (Verdict::Second, true), "{finish}");
    }
    for finish in ["content_filter", "refusal", "sensitive"] {
        let reply = of_reason(json!(finish)).unwrap();
        assert_eq!((reply.verdict, reply.is_cut_off), (Verdict::Invalid, false), "{finish}");
    }
}

#[test]
fn thoughts_are_read_under_every_name_that_servers_use() {
    let messages = [
        json!({"content": whole()}),
        json!({"content": BOX, "reasoning": THOUGHT}),
        json!({"content": BOX, "reasoning_content": THOUGHT}),
        json!({"content": BOX, "reasoning": THOUGHT, "reasoning_content": THOUGHT}),
        json!({"content": BOX, "reasoning": null, "reasoning_content": THOUGHT}),
        json!({"content": BOX, "reasoning": THOUGHT, "reasoning_content": null}),
        json!({"content": BOX, "reasoning": "", "reasoning_content": THOUGHT}),
        json!({"content": whole(), "reasoning": null, "reasoning_content": null}),
        json!({"content": whole(), "reasoning": "", "reasoning_content": ""}),
        json!({"content": [{"type": "text", "text": whole()}]}),
        json!({"content": [{"type": "text", "text": "<think>\n"}, whole()[8..].to_owned()]}),
        json!({"content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
            {"type": "text", "text": BOX},
        ]}),
        json!({"content": [
            {"type": "thinking", "thinking": THOUGHT},
            {"type": "text", "text": BOX},
        ]}),
        json!({"content": [
            {"type": "reasoning", "text": THOUGHT},
            {"type": "output_text", "text": BOX},
        ]}),
        json!({"content": [{"type": "text", "text": BOX}], "reasoning": THOUGHT}),
        json!({"content": BOX, "reasoning": THOUGHT, "tool_calls": [], "function_call": null}),
    ];
    for message in messages {
        let reply = of_message(message.clone()).unwrap();
        assert_eq!((reply.verdict, &*reply.text), (Verdict::Second, &*whole()), "{message}");
    }
}

#[test]
fn empty_thought_under_a_parser_is_a_thought() {
    for message in [
        json!({"content": BOX, "reasoning": ""}),
        json!({"content": BOX, "reasoning_content": "\n"}),
        json!({"content": BOX, "reasoning": "", "reasoning_content": null}),
        json!({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": BOX}]}),
    ] {
        assert_eq!(of_message(message.clone()).unwrap().verdict, Verdict::Second, "{message}");
    }
    // no parser: the thought never ended
    for message in [
        json!({"content": BOX}),
        json!({"content": BOX, "reasoning": null}),
        json!({"content": null, "reasoning": format!("{THOUGHT} {BOX}")}),
    ] {
        assert_eq!(of_message(message.clone()).unwrap().verdict, Verdict::Invalid, "{message}");
    }
    let cut = json!({"choices": [{"message": {"content": BOX, "reasoning": ""},
                                  "finish_reason": "length"}]});
    let cut = reply(&cut).unwrap();
    assert_eq!((cut.verdict, cut.is_cut_off), (Verdict::Invalid, true));
}

#[test]
fn fields_that_are_null_missing_or_odd_lose_no_vote() {
    let message = json!({"content": whole()});
    let choice = |index: Value| json!({"index": index, "message": message, "finish_reason": null});
    for body in [
        json!({"choices": [choice(Value::Null)], "usage": null}),
        json!({"choices": [{"message": message}]}),
        json!({"choices": [choice(json!("0"))], "usage": {"prompt_tokens": null}}),
        json!({"choices": [choice(json!(0.0))], "usage": {"prompt_tokens_details": null}}),
        json!({"choices": [choice(json!(7))], "usage": [], "error": null}),
    ] {
        let reply = reply(&body).unwrap();
        assert_eq!((reply.verdict, reply.is_cut_off), (Verdict::Second, false), "{body}");
        assert_eq!((reply.prompt_tokens, reply.completion_tokens), (0, 0));
    }
    let usage = json!({"prompt_tokens": 10.0, "completion_tokens": "9",
                       "prompt_tokens_details": {"cached_tokens": 4}});
    let counted = reply(&json!({"choices": [choice(json!(0))], "usage": usage})).unwrap();
    let counts = (counted.prompt_tokens, counted.cached_prompt_tokens, counted.completion_tokens);
    assert_eq!(counts, (10, 4, 9));
}

#[test]
fn choices_are_in_the_order_of_their_indexes_or_of_the_list() {
    let choice = |index: Value, text: &str| json!({"index": index, "message": {"content": text}});
    let texts = |choices: Value| {
        let read = ChatCompletion::read(&json!({"choices": choices})).unwrap();
        read.into_replies(9, 1.0, SentThought::Expected)
            .into_iter()
            .map(|reply| reply.text)
            .collect::<Vec<_>>()
            .concat()
    };
    let choices = json!([choice(json!(2), "c"), choice(json!(0), "a"), choice(json!(1), "b")]);
    assert_eq!(texts(choices), "abc");
    let choices = json!([choice(Value::Null, "a"), choice(json!(0), "b"), choice(json!(0), "c")]);
    assert_eq!(texts(choices), "abc");
}

#[test]
fn cut_off_answers_are_told_by_every_name() {
    for (finish, is_cut_off) in [
        (json!("length"), true),
        (json!("max_tokens"), true),
        (json!("MAX_TOKENS"), true),
        (json!("stop"), false),
        (json!(null), false),
        (json!(3), false),
    ] {
        let body = json!({"choices": [{"message": {"content": BOX}, "finish_reason": finish}]});
        assert_eq!(reply(&body).unwrap().is_cut_off, is_cut_off, "{finish}");
        let chat = ChatCompletion::read(&body).unwrap().into_chat_reply().unwrap();
        assert_eq!(chat.is_whole, !is_cut_off, "{finish}");
    }
}

#[test]
fn errors_in_a_successful_response_are_told_and_retried_if_it_helps() {
    let refused = |reason: &str| BadAnswer::Refused(reason.to_owned());
    let defect = |reason: &str| BadAnswer::Defect(reason.to_owned());
    let start = "an error in place of an answer";
    for (body, wanted) in [
        (
            json!({"object": "error", "message": "too long", "type": "Bad", "code": 400}),
            refused(&format!("{start}: too long (400)")),
        ),
        (
            json!({"error": {"message": "too long", "code": "422"}}),
            refused(&format!("{start}: too long (422)")),
        ),
        (
            json!({"error": {"message": "busy", "code": 529}}),
            defect(&format!("{start}: busy (529)")),
        ),
        (json!({"error": "busy", "choices": []}), defect(&format!("{start}: busy"))),
        (json!({"error": {"a": 1}}), defect(&format!("{start}: {{\"a\":1}}"))),
    ] {
        assert_eq!(ChatCompletion::read(&body).unwrap_err(), wanted, "{body}");
    }
}

#[test]
fn answers_in_another_form_are_named_by_their_field() {
    let message = |message: Value| json!({"choices": [{"message": message}]});
    for (body, wanted) in [
        (json!({}), "choices is missing or null, wanted a list"),
        (json!({"choices": []}), "the answer has no choices"),
        (json!(["a"]), "choices is missing or null, wanted a list"),
        (json!({"choices": [{"text": "a"}]}), "choices[0].message is missing or null"),
        (message(json!({"content": 7})), "choices[0].message.content is a number"),
        (message(json!({"content": [{"a": 1}]})), "choices[0].message.content[0] is an object"),
        (message(json!({"content": [{"type": "image"}]})), "content[0] is of type image"),
        (message(json!({"content": "a", "reasoning": 1})), "choices[0].message.reasoning is a"),
    ] {
        match ChatCompletion::read(&body) {
            Err(BadAnswer::Defect(reason)) => assert!(reason.contains(wanted), "{reason}"),
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn shares_go_by_the_length_of_the_texts() {
    assert_eq!(shares(100, &[9, 29, 59]), [10, 30, 60]);
    assert_eq!(shares(7, &[0, 0]), [3, 4]);
    assert!(shares(7, &[]).is_empty());
}

proptest! {
    #[test]
    fn shares_add_up(total: usize, lengths in prop::collection::vec(0_usize..1 << 40, 1..9)) {
        let shares = shares(total, &lengths);
        prop_assert_eq!(shares.iter().map(|share| *share as u128).sum::<u128>(), total as u128);
    }
}

#[test]
fn answers_without_a_thought_are_votes_where_none_is_sent() {
    let of = |content: &str, finish: &str, n_tokens: u64, sent: SentThought| {
        let body = json!({
            "choices": [{"message": {"content": content}, "finish_reason": finish}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 200,
                      "completion_tokens_details": {"reasoning_tokens": n_tokens}},
        });
        ChatCompletion::read(&body).unwrap().into_replies(1, 1.0, sent).remove(0).verdict
    };
    let (expected, none) = (SentThought::Expected, SentThought::None);
    assert_eq!(of(BOX, "stop", 0, expected), Verdict::Invalid);
    assert_eq!(of(BOX, "stop", 0, none), Verdict::Second);
    // OpenAI's models think, and keep the thought back
    assert_eq!(of(BOX, "stop", 192, expected), Verdict::Second);
    for sent in [expected, none] {
        // a thought that was cut off, or has no end, has no verdict
        assert_eq!(of(BOX, "length", 192, sent), Verdict::Invalid);
        assert_eq!(of(&format!("<think>\n{BOX}"), "stop", 192, sent), Verdict::Invalid);
        assert_eq!(of(&whole(), "stop", 0, sent), Verdict::Second);
        assert_eq!(of("9.", "stop", 192, sent), Verdict::Invalid);
    }
}
