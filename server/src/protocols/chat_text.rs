//! Texts to which a chat template was applied: where an assistant turn begins. Pure.

use joust_schema::control_tokens::{answer_starts, without_ends};

/// Splits a conversation into prompt and answer, at its last assistant turn; `None` without one.
pub(crate) fn split(text: &str) -> Option<(String, String)> {
    let found = answer_starts().filter_map(|start| Some((text.rfind(start)?, start.len())));
    let (at, length) = found.max()?;
    let said = without_ends(&text[at + length..]);
    let prompt = text[..at].trim();
    (!prompt.is_empty()).then(|| (prompt.to_owned(), said.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn split_cuts_before_the_last_answer() {
        let qwen = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n";
        let parts = |(prompt, said): (&str, &str)| Some((prompt.to_owned(), said.to_owned()));
        assert_eq!(split(qwen), parts(("<|im_start|>user\n2+2?<|im_end|>", "4")));
        let llama = "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
                     <|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>";
        assert_eq!(split(llama).unwrap().1, "Ho");
        assert_eq!(split("<s>[INST] a [/INST] b</s>[INST] c [/INST] d</s>").unwrap().1, "d");
        let gemma =
            "<start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n4<end_of_turn>\n";
        assert_eq!(split(gemma).unwrap().1, "4");
        assert_eq!(split("2+2? 4"), None);
        assert_eq!(split("<|im_start|>assistant\n4"), None);
    }
}
