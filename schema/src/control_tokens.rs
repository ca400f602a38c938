//! Control tokens of the known families of chat templates: the one list that tells a policy's text
//! from the marks of a chat.
//!
//! It does not know tokenizers: a tokenizer's own special tokens are known by the engine.

/// Tokens of a family of chat templates. A family whose names are all of the form `<|name|>` has
/// only its starts and ends here; [`by_form`] finds them.
struct ChatFamily {
    /// Starts of an assistant turn.
    answer_starts: &'static [&'static str],
    /// Tokens that end an answer or a text, or fill a batch after its end.
    ends: &'static [&'static str],
    /// Other control tokens.
    others: &'static [&'static str],
}

const FAMILIES: [ChatFamily; 12] = [
    // ChatML: Qwen, Yi, SmolLM, InternLM
    ChatFamily {
        answer_starts: &["<|im_start|>assistant"],
        ends: &["<|im_end|>", "<|endoftext|>", "<eoa>", "<eoh>"],
        others: &[],
    },
    // Llama 2
    ChatFamily {
        answer_starts: &["[/INST]"],
        ends: &["</s>", "<pad>", "<unk>"],
        others: &["<s>", "[INST]", "<<SYS>>", "<</SYS>>"],
    },
    // Llama 3
    ChatFamily {
        answer_starts: &["<|start_header_id|>assistant<|end_header_id|>"],
        ends: &["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"],
        others: &[],
    },
    // Gemma
    ChatFamily {
        answer_starts: &["<start_of_turn>model", "<|turn>model"],
        ends: &["<end_of_turn>", "<eos>", "<turn|>"],
        others: &["<bos>", "<start_of_turn>", "<start_of_image>", "<end_of_image>", "<mask>"],
    },
    // Mistral
    ChatFamily {
        answer_starts: &[],
        ends: &[],
        others: &[
            "[THINK]",
            "[/THINK]",
            "[SYSTEM_PROMPT]",
            "[/SYSTEM_PROMPT]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_CALLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
            "[TOOL_CONTENT]",
            "[ARGS]",
            "[CALL_ID]",
            "[MODEL_SETTINGS]",
            "[/MODEL_SETTINGS]",
            "[IMG]",
            "[IMG_BREAK]",
            "[IMG_END]",
            "[BEGIN_AUDIO]",
            "[AUDIO]",
            "[PREFIX]",
            "[MIDDLE]",
            "[SUFFIX]",
        ],
    },
    // DeepSeek
    ChatFamily {
        answer_starts: &["<｜Assistant｜>"],
        ends: &["<｜end▁of▁sentence｜>", "<|EOT|>"],
        others: &[],
    },
    // Phi
    ChatFamily { answer_starts: &["<|assistant|>"], ends: &["<|end|>"], others: &[] },
    // Command-R
    ChatFamily {
        answer_starts: &["<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"],
        ends: &["<|END_OF_TURN_TOKEN|>", "<EOS_TOKEN>", "<PAD>"],
        others: &["<BOS_TOKEN>", "<UNK>", "<CLS>", "<SEP>", "<MASK_TOKEN>", "<EOP_TOKEN>"],
    },
    // GLM
    ChatFamily { answer_starts: &[], ends: &["<eop>"], others: &["[gMASK]", "[sMASK]", "<sop>"] },
    // gpt-oss
    ChatFamily {
        answer_starts: &["<|start|>assistant<|channel|>final<|message|>"],
        ends: &["<|return|>"],
        others: &[],
    },
    // Seed
    ChatFamily { answer_starts: &[], ends: &["<seed:eos>"], others: &["<seed:bos>"] },
    // EXAONE and MiniMax
    ChatFamily {
        answer_starts: &["[|assistant|]", "]~b]ai"],
        ends: &["[|endofturn|]", "[e~["],
        others: &["]~!b[", "]~b]", "]!p~[", "]!d~["],
    },
];

/// First characters of all control tokens.
const BRACKETS: [char; 3] = ['<', '[', ']'];

/// Maximum number of characters between the brackets of a token that is found by its form.
const MAX_NAME: usize = 64;

/// What breaks a control token up: a space of no width. A reader of the text sees no difference,
/// and no tokenizer takes the broken text for the token. A visible space would change code and
/// markup (`</s>` ends struck-out text in HTML), a letter of the same look would be read as another
/// word.
const BREAK: char = '\u{200b}';

/// Starts of an assistant turn, of all families.
pub fn answer_starts() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.answer_starts).copied()
}

/// Whether a text is exactly one control token.
pub fn is_control(text: &str) -> bool {
    token_at(text) == Some(text.len())
}

/// The control token that a text begins with; `None` without one.
pub fn token_at_start(text: &str) -> Option<&str> {
    text.starts_with(BRACKETS).then(|| token_at(text))?.map(|length| &text[..length])
}

/// The first control token of a text: where it starts and ends, in bytes.
pub fn first_token(text: &str) -> Option<(usize, usize)> {
    let candidates = text.match_indices(BRACKETS);
    candidates.map(|(at, _)| at).find_map(|at| Some((at, at + token_at(&text[at..])?)))
}

/// The text with every control token broken up by a space without width, so that any tokenizer
/// reads it as text. Other texts are returned unchanged.
pub fn disarmed(text: &str) -> String {
    disarmed_where(text, |_| true)
}

/// As [`disarmed`], for the tokens of which `is_wanted` is true.
pub fn disarmed_where(text: &str, is_wanted: impl Fn(&str) -> bool) -> String {
    let mut disarmed = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, end)) = first_token(rest) {
        // every token begins with a bracket of one byte
        disarmed.push_str(&rest[..=start]);
        if is_wanted(&rest[start..end]) {
            disarmed.push(BREAK);
        }
        // a token may begin inside of another
        rest = &rest[start + 1..];
    }
    disarmed + rest
}

/// An answer without white space around it and without the tokens at its end that end a turn, end a
/// text, or fill a batch.
pub fn without_ends(answer: &str) -> &str {
    let mut answer = answer.trim();
    while let Some(shorter) = without_end(answer) {
        answer = shorter.trim_end();
    }
    answer
}

/// The text before its last token, if that is one that ends an answer or has the form `<|name|>`.
fn without_end(text: &str) -> Option<&str> {
    let ends = FAMILIES.iter().flat_map(|family| family.ends);
    let mut ends = ends.filter_map(|end| text.strip_suffix(end));
    if let Some(before) = ends.next() {
        return Some(before);
    }
    let (before, name) = text.strip_suffix("|>")?.rsplit_once("<|")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(before)
}

/// Length of the control token that a text begins with; `None` without one.
fn token_at(text: &str) -> Option<usize> {
    let named = FAMILIES.iter().flat_map(|family| {
        let all = family.ends.iter().chain(family.others).chain(family.answer_starts);
        all.filter(move |token| text.starts_with(**token)).map(|token| token.len())
    });
    // the start of an answer is a token and a role: the token alone is broken up
    named.chain(by_form(text)).min()
}

/// Length of a token of the form `<|name|>`, `<|name>`, `<name|>` or `[|name|]` (with either kind
/// of bar) that a text begins with.
fn by_form(text: &str) -> Option<usize> {
    let is_bar = |c: char| c == '|' || c == '｜';
    let close = match text.chars().next()? {
        '<' => '>',
        '[' => ']',
        _ => return None,
    };
    let inside = &text[1..];
    let is_end = |c: char| c == close || c == '<' || c == '[' || c.is_whitespace();
    let (end, last) = inside.char_indices().take(MAX_NAME + 2).find(|(_, c)| is_end(*c))?;
    let inside = &inside[..end];
    let name = inside.trim_matches(is_bar);
    let (opens, closes) = (inside.starts_with(is_bar), inside.ends_with(is_bar));
    let has_bars = if close == '>' { opens || closes } else { opens && closes };
    let is_name = !name.is_empty() && !name.contains(|c: char| is_bar(c) || c == BREAK);
    (last == close && has_bars && is_name).then_some(end + 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_tokens_of_every_family_are_found() {
        let tokens = [
            "<|im_start|>",
            "<|im_end|>",
            "<|endoftext|>",
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "<<SYS>>",
            "<</SYS>>",
            "<|begin_of_text|>",
            "<|eot_id|>",
            "<|start_header_id|>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<bos>",
            "<eos>",
            "<|turn>",
            "<turn|>",
            "[TOOL_CALLS]",
            "[/AVAILABLE_TOOLS]",
            "<｜begin▁of▁sentence｜>",
            "<｜User｜>",
            "<|END_OF_TURN_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
            "<BOS_TOKEN>",
            "<|user|>",
            "<|end|>",
            "[gMASK]",
            "<|channel|>",
            "[|endofturn|]",
            "]~b]",
        ];
        for token in tokens {
            assert!(is_control(token), "{token}");
            let text = format!("so: {token}user");
            assert_eq!(first_token(&text), Some((4, 4 + token.len())), "{token}");
            let broken = disarmed(&text);
            assert_eq!(first_token(&broken), None, "{token}");
            assert_eq!(broken.replace(BREAK, ""), text, "{token}");
        }
    }

    #[test]
    fn ordinary_text_is_not_disarmed() {
        let texts = [
            "a < b || c > d",
            "Vec<Option<u8>> and Array<A|B>",
            "x <|> y <||> z",
            "[0, 1] and |x| and [a|b]",
            "<think>hm</think> <b>bold</b> <sup>2</sup>",
            "\\boxed{Assistant 1} <|not a token|>",
            "",
        ];
        for text in texts {
            assert_eq!(disarmed(text), text);
        }
    }

    #[test]
    fn ends_of_every_family_are_removed_and_nothing_else() {
        for end in ["<|im_end|>", "</s>", "<end_of_turn>", "<eos>", "<｜end▁of▁sentence｜>"] {
            assert_eq!(without_ends(&format!(" 4 {end}\n{end}<|endoftext|>")), "4", "{end}");
        }
        assert_eq!(without_ends("4<|eot_id|><pad><pad>"), "4");
        assert_eq!(without_ends("4<|END_OF_TURN_TOKEN|><|a_token|>"), "4");
        assert_eq!(without_ends("4</s> is it <|x y|>"), "4</s> is it <|x y|>");
        assert_eq!(without_ends("<b>4</b>"), "<b>4</b>");
        assert_eq!(without_ends("</s>"), "");
    }

    proptest! {
        #[test]
        fn disarmed_text_has_no_token_and_looks_the_same(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "<", "|", ">", "<|", "|>", "im_end", "[", "/INST]", "[INST]", "</s>", "<<SYS>>",
                "<s", "｜", " ", "é", "<|a<|b|>c|>", "]~b]", "[e~[",
            ]), 0..12),
        ) {
            let text = pieces.concat();
            let broken = disarmed(&text);
            prop_assert_eq!(first_token(&broken), None);
            prop_assert_eq!(broken.replace(BREAK, ""), text);
        }
    }
}
