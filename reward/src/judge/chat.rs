//! Conversations with the judge's model, outside of any match.
//!
//! It does not know votes.

use joust_schema::prompt::Message;
use joust_schema::seed::Seed;

use super::vote::JudgeError;

/// Identifies a conversation among those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChatId(pub u64);

/// A conversation that the model is to continue.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    /// Messages so far, oldest first.
    pub messages: Vec<Message>,
    /// Maximum number of tokens of the answer; the judge's own limit if not given.
    pub max_tokens: Option<usize>,
    /// Sampling temperature; the judge's own if not given.
    pub temperature: Option<f64>,
    /// Probability mass that is sampled from; the judge's own if not given.
    pub top_p: Option<f64>,
    /// Texts that end the answer and are no part of it.
    pub stop: Vec<String>,
    /// Seed of the draws.
    pub seed: Seed,
}

/// The model's answer to a [`ChatRequest`].
#[derive(Clone, Debug, PartialEq)]
pub struct ChatReply {
    /// The answer, with the model's thought if there is one.
    pub text: String,
    /// Number of tokens of the conversation.
    pub prompt_tokens: usize,
    /// Number of tokens of the answer.
    pub completion_tokens: usize,
    /// True if the model ended the answer itself, false if the token limit did.
    pub is_whole: bool,
}

/// A finished conversation: the id of its request, and the reply or why there is none.
pub type ChatOutcome = (ChatId, Result<ChatReply, JudgeError>);

/// A judge that is a model and answers conversations.
///
/// [`Judge::poll`](super::Judge::poll) works on conversations and votes alike.
pub trait ChatModel {
    /// Takes a conversation under an id that no other conversation in flight has.
    ///
    /// # Errors
    /// [`JudgeError::Refused`] for a conversation that the model cannot take.
    fn submit_chat(&mut self, id: ChatId, request: ChatRequest) -> Result<(), JudgeError>;

    /// Drops a conversation; its outcome never comes, unless it was finished already.
    fn cancel_chat(&mut self, id: ChatId);

    /// Returns the conversations that finished since the last call.
    fn take_finished_chats(&mut self) -> Vec<ChatOutcome>;
}
