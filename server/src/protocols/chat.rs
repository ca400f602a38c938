//! `POST /v1/chat/completions`: the judge's model in OpenAI's protocol, for verl's generative
//! reward models and for the `http` judge of another joust.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use futures_util::future::try_join_all;
use futures_util::stream::{self, FuturesUnordered, Stream, StreamExt as _};
use serde_json::{Value, json};

use super::chat_request::Chat;
use super::system::model_name;
use crate::client::Client;
use crate::dump::journal::unix_now;
use crate::input::Input;
use crate::problem::Problem;
use crate::state::ServerState;
use joust_reward::judge::{ChatReply, ChatRequest};

/// Number of an answer, and the answer.
type NumberedReply = (u32, Result<ChatReply, Problem>);

/// Fields that every object of an answer has.
struct AnswerHead {
    id: String,
    created: u64,
    model: String,
}

/// Tokens of all answers of a request.
#[derive(Default)]
struct ChatUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
}

/// `POST /v1/chat/completions`.
pub(crate) async fn completions(
    State(state): State<ServerState>,
    Extension(client): Extension<Client>,
    Input(body): Input<Chat>,
) -> Result<Response, Problem> {
    let judge = &state.scorer.judge;
    body.check(model_name(judge), judge, state.scorer.max_thinking_tokens)?;
    state.check_open()?;
    let seed = body.seed(state.scorer.config.seed);
    let head = AnswerHead {
        id: format!("chatcmpl-{:016x}", seed.0),
        created: unix_now() as u64,
        model: model_name(judge).to_owned(),
    };
    let ask = |number: u32| {
        let request = ChatRequest {
            messages: body.messages(),
            max_tokens: body.max_tokens(),
            temperature: body.temperature,
            top_p: body.top_p,
            stop: body.stops().to_vec(),
            seed: seed.child("choice", u64::from(number)),
        };
        let (scorer, client) = (state.scorer.clone(), client.clone());
        async move { (number, scorer.chat(request, &client).await) }
    };
    let asked = (0..body.n_answers()).map(ask);
    if body.is_stream() {
        return streamed(head, asked.collect(), body.wants_usage()).await;
    }
    let replies = asked.map(|asked| async move { asked.await.1 });
    Ok(Json(head.completion(&try_join_all(replies).await?)).into_response())
}

/// Answers with server-sent events. A problem of the answer that comes first has a status of its
/// own; a later one is an event.
async fn streamed<F>(
    head: AnswerHead,
    mut replies: FuturesUnordered<F>,
    wants_usage: bool,
) -> Result<Response, Problem>
where
    F: Future<Output = NumberedReply> + Send + 'static,
{
    let first = replies.next().await.expect("a request has one answer or more. This is a bug.");
    let first = (first.0, Ok(first.1?));
    let replies = stream::once(async { first }).chain(replies);
    let events = events(head, Box::pin(replies), wants_usage);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

/// The events of all answers; the last is `[DONE]`.
fn events(
    head: AnswerHead,
    replies: impl Stream<Item = NumberedReply> + Unpin + Send,
    wants_usage: bool,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let start = Some((head, replies, ChatUsage::default()));
    let steps = stream::unfold(start, move |state| async move {
        let (head, mut replies, mut usage) = state?;
        match replies.next().await {
            Some((number, Ok(reply))) => {
                usage.add(&reply);
                let chunks = head.chunks(number, &reply, wants_usage).map(|chunk| event(&chunk));
                Some((Vec::from(chunks), Some((head, replies, usage))))
            }
            Some((_, Err(problem))) => {
                let error = event(&json!({"error": problem.as_error()}));
                Some((vec![error, done()], None))
            }
            None => {
                let usage = wants_usage.then(|| event(&head.usage_chunk(&usage)));
                Some((usage.into_iter().chain([done()]).collect(), None))
            }
        }
    });
    steps.flat_map(|events| stream::iter(events.into_iter().map(Ok)))
}

fn event(chunk: &Value) -> Event {
    Event::default().data(chunk.to_string())
}

fn done() -> Event {
    Event::default().data("[DONE]")
}

fn finish_reason(reply: &ChatReply) -> &'static str {
    if reply.is_whole { "stop" } else { "length" }
}

impl AnswerHead {
    fn object(&self, kind: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    /// The body of an answer that is no stream: one choice per reply.
    fn completion(&self, replies: &[ChatReply]) -> Value {
        let mut usage = ChatUsage::default();
        replies.iter().for_each(|reply| usage.add(reply));
        let choice = |(index, reply): (usize, &ChatReply)| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": reply.text},
                "finish_reason": finish_reason(reply),
                "logprobs": null,
            })
        };
        let choices = replies.iter().enumerate().map(choice).collect();
        let mut body = self.object("chat.completion", choices);
        body["usage"] = usage.json();
        body
    }

    /// A reply as the pieces of a stream: its speaker, its text, its end.
    fn chunks(&self, index: u32, reply: &ChatReply, wants_usage: bool) -> [Value; 3] {
        let pieces = [
            (json!({"role": "assistant", "content": ""}), None),
            (json!({"content": reply.text}), None),
            (json!({}), Some(finish_reason(reply))),
        ];
        pieces.map(|(delta, finish_reason)| {
            let choice = json!({
                "index": index,
                "delta": delta,
                "logprobs": null,
                "finish_reason": finish_reason,
            });
            let mut chunk = self.object("chat.completion.chunk", json!([choice]));
            if wants_usage {
                chunk["usage"] = Value::Null;
            }
            chunk
        })
    }

    fn usage_chunk(&self, usage: &ChatUsage) -> Value {
        let mut chunk = self.object("chat.completion.chunk", json!([]));
        chunk["usage"] = usage.json();
        chunk
    }
}

impl ChatUsage {
    fn add(&mut self, reply: &ChatReply) {
        // all answers have the same prompt
        self.prompt_tokens = reply.prompt_tokens;
        self.completion_tokens += reply.completion_tokens;
    }

    fn json(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        })
    }
}
