//! Chats whose contents are text alone: control tokens that a content spells out are encoded as the
//! characters that they are, and only those that the template writes are control tokens.
//!
//! Contents are marked before the template is rendered, and the rendered text is encoded with its
//! marks. The text that the model reads has no mark. It does not know templates.

use std::collections::{BTreeMap, BTreeSet};

use joust_schema::control_tokens;
use joust_schema::ordered_json::JsonFields;
use joust_schema::prompt::Message;
use tokenizers::AddedToken;

use super::chat::{JinjaTemplate, TemplateContext};
use crate::error::Error;
use crate::jinja::CalendarDate;

/// Encloses the number of a control token that stands in a content. Unicode keeps this code point
/// free for uses inside a program.
const IN_CONTENT: char = '\u{fdd0}';

/// Encloses the number of a control token that the template wrote.
const IN_TEMPLATE: char = '\u{fdd1}';

/// What encodes marked text.
pub(super) struct TextEncoder {
    /// Control tokens of the tokenizer, longest first.
    controls: Vec<String>,
    /// First bytes of the control tokens.
    first_bytes: BTreeSet<u8>,
    /// Tokens that the template writes and that are ordinary text to the tokenizer, such as
    /// `[INST]` of Llama 2.
    in_template: BTreeSet<String>,
    /// A tokenizer that reads control tokens as text and numbered marks as control tokens.
    inner: tokenizers::Tokenizer,
    /// Ids of the numbered marks → ids of the control tokens.
    ids: BTreeMap<u32, u32>,
}

impl TextEncoder {
    /// Of a tokenizer and the control tokens that its chat template writes ([`written_tokens`]).
    pub(super) fn new(tokenizer: &tokenizers::Tokenizer, written: BTreeSet<String>) -> Self {
        let mut added: Vec<(u32, AddedToken)> =
            tokenizer.get_added_tokens_decoder().into_iter().collect();
        added.retain(|(_, token)| {
            let content = &token.content;
            !content.is_empty() && (token.special || control_tokens::is_control(content))
        });
        added.sort_by_key(|(id, token)| (std::cmp::Reverse(token.content.len()), *id));
        let mut inner = tokenizer.clone();
        let as_special =
            |(_, token): &(u32, AddedToken)| AddedToken { special: true, ..token.clone() };
        let mark = |(number, (_, token)): (usize, &(u32, AddedToken))| AddedToken {
            content: format!("{IN_TEMPLATE}{number}{IN_TEMPLATE}"),
            special: false,
            normalized: false,
            ..token.clone()
        };
        let marks: Vec<AddedToken> = added.iter().enumerate().map(mark).collect();
        let is_added = inner.add_special_tokens(added.iter().map(as_special)).is_ok()
            && inner.add_tokens(marks.iter().cloned()).is_ok();
        assert!(is_added, "tokens without bounds can be added. This is a bug.");
        inner.set_encode_special_tokens(true);
        let ids = marks
            .iter()
            .zip(&added)
            .filter_map(|(mark, (id, _))| Some((inner.token_to_id(&mark.content)?, *id)));
        let ids = ids.collect();
        let controls: Vec<String> = added.into_iter().map(|(_, token)| token.content).collect();
        let first_bytes = controls.iter().filter_map(|token| token.bytes().next()).collect();
        let mut in_template = written;
        in_template.retain(|token| !controls.contains(token));
        Self { controls, first_bytes, in_template, inner, ids }
    }

    /// A content of a chat with marks in the place of its control tokens; unchanged without any.
    pub(super) fn mark_controls(&self, content: &str) -> String {
        let has_mark = content.contains([IN_CONTENT, IN_TEMPLATE]);
        if !has_mark && !self.may_hold_controls(content) {
            return content.to_owned();
        }
        let content = content.replace([IN_CONTENT, IN_TEMPLATE], "\u{fffd}");
        let marked = self.replace_controls(&content, IN_CONTENT);
        let is_in_template = |token: &str| self.in_template.contains(token);
        control_tokens::disarmed_where(&marked, is_in_template)
    }

    /// Whether a rendered chat has marked contents.
    pub(super) fn is_marked(rendered: &str) -> bool {
        rendered.contains(IN_CONTENT)
    }

    /// Size of a rendered chat without what stands in the place of control tokens.
    pub(super) fn bytes_outside_marks(rendered: &str) -> usize {
        rendered.split(IN_CONTENT).step_by(2).map(str::len).sum()
    }

    /// The ids of a rendered chat whose contents were marked.
    pub(super) fn encode_marked(&self, rendered: &str) -> Result<Vec<u32>, Error> {
        let text = self.replace_controls(rendered, IN_TEMPLATE);
        let text = self.restore(&text, IN_CONTENT);
        let encoding = self.inner.encode_fast(&*text, false);
        let encoding = encoding.map_err(|error| Error::Tokenizer(error.to_string()))?;
        let of_mark = |id: &u32| self.ids.get(id).copied().unwrap_or(*id);
        Ok(encoding.get_ids().iter().map(of_mark).collect())
    }

    fn may_hold_controls(&self, text: &str) -> bool {
        self.next_control(text).is_some()
            || !self.in_template.is_empty() && control_tokens::first_token(text).is_some()
    }

    /// Start, and number, of the first control token in a text.
    fn next_control(&self, text: &str) -> Option<(usize, usize)> {
        let is_first = |(_, byte): &(usize, u8)| self.first_bytes.contains(byte);
        text.bytes().enumerate().filter(is_first).find_map(|(at, _)| {
            let rest = &text.as_bytes()[at..];
            let starts = |token: &String| rest.starts_with(token.as_bytes());
            Some((at, self.controls.iter().position(starts)?))
        })
    }

    /// The text with the numbers of its control tokens, in marks, in their place.
    fn replace_controls(&self, text: &str, mark: char) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, number)) = self.next_control(rest) {
            replaced.push_str(&rest[..at]);
            replaced.push_str(&format!("{mark}{number}{mark}"));
            rest = &rest[at + self.controls[number].len()..];
        }
        replaced + rest
    }

    /// The text with control tokens in the place of their numbers.
    fn restore(&self, text: &str, mark: char) -> String {
        let control = |number: &str| Some(&self.controls.get(number.parse::<usize>().ok()?)?[..]);
        let pieces = text.split(mark).enumerate();
        let restored = pieces.map(|(idx, piece)| match idx % 2 {
            0 => piece,
            _ => control(piece).unwrap_or_default(),
        });
        restored.collect()
    }
}

/// Control tokens that a template writes: in its source, or in what it makes of empty messages.
pub(super) fn written_tokens(
    template: &JinjaTemplate,
    today: CalendarDate,
    kwargs: &JsonFields,
) -> BTreeSet<String> {
    let turns = |roles: &[&str]| -> Vec<Message> {
        roles.iter().map(|role| Message::new(*role, "")).collect()
    };
    let chats = [turns(&["user", "assistant", "user"]), turns(&["system", "user"])];
    let special_tokens = ["bos_token", "eos_token"].map(|name| (name.to_owned(), String::new()));
    let context = TemplateContext {
        add_generation_prompt: true,
        special_tokens: &special_tokens,
        today,
        kwargs,
    };
    let rendered = chats.iter().filter_map(|chat| template.render(chat, &context).ok());
    let rendered = rendered.map(|rendered| rendered.text);
    let mut written = BTreeSet::new();
    for text in std::iter::once(template.source().to_owned()).chain(rendered) {
        let mut rest = &text[..];
        while let Some((start, end)) = control_tokens::first_token(rest) {
            written.insert(rest[start..end].to_owned());
            rest = &rest[start + 1..];
        }
    }
    written
}
