//! One row of a file of preference pairs, in every form that TRL's `DPOTrainer` takes.

use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::{Message, Prompt};
use joust_schema::rows::{MESSAGES, Place, Row, TEMPLATE_COLUMNS};

use super::form;
use super::row::turn;

/// A prompt with two completions, of which one is preferred.
#[derive(Clone)]
pub(crate) struct PairRow {
    pub(super) place: Place,
    pub(super) prompt: Prompt,
    pub(super) chosen: String,
    pub(super) rejected: String,
    /// Variables of the chat template that the row brings along, such as tools.
    pub(super) template_kwargs: JsonFields,
}

impl PairRow {
    pub(super) const COLUMNS: [&str; 6] =
        ["prompt", MESSAGES, "chosen", "rejected", TEMPLATE_COLUMNS[0], TEMPLATE_COLUMNS[1]];

    /// The forms of rows that are read.
    const FORMS: &str = "`chosen` and `rejected` with `prompt` (or `messages`, ShareGPT's \
                         `conversations`, Alpaca's `instruction`), or alone: two chats or texts \
                         that begin with the prompt";

    /// Why a file with these columns alone has no pairs.
    pub(super) fn unknown(names: &[String]) -> String {
        form::unknown(names, "chosen", Self::FORMS)
    }

    /// A prompt with two answers; or two chats or texts that begin alike, of which the common
    /// beginning is the prompt. Two chats may bring along the prompt that a column
    /// has, too.
    pub(super) fn of(row: &Row) -> Result<Self, joust_schema::Error> {
        let has_prompt = form::has_prompt(row);
        let said = |column| match (has_prompt, row.kind(column)) {
            (false, Some("a text" | "a list")) => form::text_or_chat(row, column),
            (_, Some("null") | None) => Err(form::unknown_row(row, column, Self::FORMS)),
            _ => form::answer(row, column),
        };
        let (chosen, rejected) = (said("chosen")?, said("rejected")?);
        let (prompt, chosen, rejected) = match (chosen, rejected) {
            (Prompt::Messages(chosen), Prompt::Messages(rejected))
                if !has_prompt || begin_with_prompt(row, &chosen, &rejected)? =>
            {
                let n_common = common_turns(&chosen, &rejected);
                let (prompt, chosen) = split(chosen, n_common);
                let (_, rejected) = split(rejected, n_common);
                (prompt, chosen, rejected)
            }
            (Prompt::Text(chosen), Prompt::Text(rejected)) if !has_prompt => {
                let at = common_bytes(&chosen, &rejected);
                let rest = |text: &str| Prompt::Text(text[at..].to_owned());
                (Prompt::Text(chosen[..at].to_owned()), rest(&chosen), rest(&rejected))
            }
            (chosen, rejected) => {
                let (column, prompt) = form::open_prompt(row)?;
                if let Some(problem) = prompt.emptiness() {
                    return Err(row.cell_error(column, problem));
                }
                (prompt, chosen, rejected)
            }
        };
        if prompt.is_empty() {
            let text = "has no beginning in common with `rejected`, which would be the prompt; \
                        give the prompt a column of its own";
            return Err(match row.get("prompt") {
                Some(_) => row.error(format!("column `prompt` is null, and `chosen` {text}")),
                None => row.cell_error("chosen", text),
            });
        }
        if let Some(number) = prompt.answered_at() {
            let text = format!(
                "has message {number} of the assistant in common with `rejected`, wanted a turn of \
                 the user at the end of what both begin with"
            );
            return Err(row.cell_error("chosen", text));
        }
        if let Some(problem) = prompt.emptiness() {
            let text = format!("the prompt {problem}");
            return Err(row.error(text));
        }
        let chosen = turn(row, "chosen", chosen)?;
        let rejected = turn(row, "rejected", rejected)?;
        let template_kwargs = row.template_kwargs(&prompt)?;
        Ok(Self { place: row.place(), prompt, chosen, rejected, template_kwargs })
    }

    /// Whether the chat template renders the prompt; with `chat`, it renders texts too.
    pub(super) fn is_chat(&self, chat: bool) -> bool {
        chat || matches!(self.prompt, Prompt::Messages(_))
    }
}

/// Whether two chats bring along the prompt that a column has: what they have in common begins with
/// it, or holds it as a message.
fn begin_with_prompt(
    row: &Row,
    chosen: &[Message],
    rejected: &[Message],
) -> Result<bool, joust_schema::Error> {
    let common = &chosen[..common_turns(chosen, rejected)];
    Ok(match form::prompt(row)?.1 {
        Prompt::Messages(prompt) => !prompt.is_empty() && common.starts_with(&prompt),
        Prompt::Text(prompt) => common.iter().any(|turn| turn.content.trim() == prompt.trim()),
    })
}

/// Number of messages at the beginning that are the same in both chats; of each chat at least the
/// last message is left.
fn common_turns(chosen: &[Message], rejected: &[Message]) -> usize {
    let most = chosen.len().min(rejected.len()).saturating_sub(1);
    let pairs = chosen.iter().zip(rejected).take(most);
    pairs.take_while(|(chosen, rejected)| chosen == rejected).count()
}

fn split(mut chat: Vec<Message>, at: usize) -> (Prompt, Prompt) {
    let rest = chat.split_off(at);
    (Prompt::Messages(chat), Prompt::Messages(rest))
}

/// Length in bytes of the common beginning of two texts. A blank at its end belongs to the
/// completions, as in TRL's `extract_prompt`.
fn common_bytes(chosen: &str, rejected: &str) -> usize {
    let alike = chosen.chars().zip(rejected.chars()).take_while(|(a, b)| a == b);
    let at: usize = alike.map(|(character, _)| character.len_utf8()).sum();
    match chosen[..at].strip_suffix(' ') {
        Some(before) => before.len(),
        None => at,
    }
}

#[cfg(test)]
mod tests;
