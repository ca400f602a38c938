//! Texts to which a chat template was applied: where an assistant turn begins, and which tokens end
//! an answer. Pure.

/// Start of an assistant turn in the chat templates of Qwen, Llama 3, Gemma, Mistral, DeepSeek and
/// Phi.
pub(crate) const ASSISTANT_STARTS: [&str; 6] = [
    "<|im_start|>assistant",
    "<|start_header_id|>assistant<|end_header_id|>",
    "<start_of_turn>model",
    "[/INST]",
    "<｜Assistant｜>",
    "<|assistant|>",
];

/// End of an answer in the same templates.
const ANSWER_ENDS: [&str; 6] =
    ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<｜end▁of▁sentence｜>", "<|end|>"];

/// Splits a conversation into prompt and answer, at its last assistant turn; `None` without one.
pub(crate) fn split(text: &str) -> Option<(String, String)> {
    let found = ASSISTANT_STARTS.iter().filter_map(|start| Some((text.rfind(start)?, start.len())));
    let (at, length) = found.max()?;
    let mut said = text[at + length..].trim();
    while let Some(shorter) = ANSWER_ENDS.iter().find_map(|end| said.strip_suffix(end)) {
        said = shorter.trim_end();
    }
    let prompt = text[..at].trim();
    (!prompt.is_empty()).then(|| (prompt.to_owned(), said.to_owned()))
}

/// The completion after the prompt in a decoded query; `None` if the query does not contain the
/// prompt. Decoding adds a begin-of-text token before the prompt and an end token after the
/// completion; neither is part of the completion.
pub(crate) fn completion_after<'a>(query: &'a str, prompt: &str) -> Option<&'a str> {
    let start = query.find(prompt.trim())? + prompt.trim().len();
    let mut said = query[start..].trim();
    while let Some(shorter) = without_end_token(said) {
        said = shorter.trim_end();
    }
    Some(said)
}

/// The text before a last token of the form `<|im_end|>` or `</s>`; `None` without one.
fn without_end_token(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_suffix("</s>") {
        return Some(rest);
    }
    let (rest, token) = text.strip_suffix("|>")?.rsplit_once("<|")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!token.is_empty() && token.chars().all(is_name)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::{completion_after, split};

    #[test]
    fn completion_after_drops_what_the_tokenizer_adds() {
        let prompt = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n";
        let query = format!("{prompt}4 <|x y|> is it.<|im_end|>\n<|endoftext|>");
        assert_eq!(completion_after(&query, prompt), Some("4 <|x y|> is it."));
        assert_eq!(completion_after("<s>2+2? 4</s>", "2+2?"), Some("4"));
        assert_eq!(completion_after("2+2?", "2+2?"), Some(""));
        assert_eq!(completion_after("2 + 2? 4", "2+2?"), None);
    }

    #[test]
    fn split_cuts_before_the_last_answer() {
        let qwen = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n";
        let parts = |(prompt, said): (&str, &str)| Some((prompt.to_owned(), said.to_owned()));
        assert_eq!(split(qwen), parts(("<|im_start|>user\n2+2?<|im_end|>", "4")));
        let llama = "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                     <|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>";
        assert_eq!(split(llama).unwrap().1, "Ho");
        assert_eq!(split("<s>[INST] a [/INST] b</s>[INST] c [/INST] d</s>").unwrap().1, "d");
        assert_eq!(split("2+2? 4"), None);
        assert_eq!(split("<|im_start|>assistant\n4"), None);
    }
}
