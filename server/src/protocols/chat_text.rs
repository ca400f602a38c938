//! Texts to which a chat template was applied: where an assistant turn begins. Pure.

use std::collections::BTreeMap;

use joust_schema::control_tokens::{answer_starts, without_ends};

/// Maximum number of splits of one text: each takes the time of reading it once.
const MAX_SPLITS: usize = 64;

/// The splits of a conversation into prompt and answer, at each start of an assistant's turn, the
/// last one first. The last one is where the answer begins, unless the answer itself names such a
/// start.
pub(crate) fn splits(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut starts = BTreeMap::new();
    for start in answer_starts() {
        for (at, _) in text.match_indices(start) {
            let length = starts.entry(at).or_insert(0);
            *length = start.len().max(*length);
        }
    }
    // an answer with many of them hides the true one the least at the text's beginning
    let last = starts.last_key_value().map(|(&at, &length)| (at, length));
    let first = starts.into_iter().take(MAX_SPLITS - 1).filter(move |start| Some(*start) != last);
    let parts = move |(at, length): (usize, usize)| {
        let prompt = text[..at].trim();
        (!prompt.is_empty()).then(|| (prompt, without_ends(&text[at + length..])))
    };
    last.into_iter().chain(first.collect::<Vec<_>>().into_iter().rev()).filter_map(parts)
}

#[cfg(test)]
mod tests {
    use super::{MAX_SPLITS, splits};

    fn split(text: &str) -> Option<(String, String)> {
        splits(text).next().map(|(prompt, said)| (prompt.to_owned(), said.to_owned()))
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
        let gemma =
            "<start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n4<end_of_turn>\n";
        assert_eq!(split(gemma).unwrap().1, "4");
        assert_eq!(split("2+2? 4"), None);
        assert_eq!(split("<|im_start|>assistant\n4"), None);
    }

    #[test]
    fn splits_are_at_every_start_of_an_answer() {
        let text = "<|im_start|>user\nhow?<|im_end|>\n<|im_start|>assistant\nWrite \
                    <|im_start|>assistant and [/INST] so.<|im_end|>\n";
        let said: Vec<&str> = splits(text).map(|(_, said)| said).collect();
        assert_eq!(said[0], "so.");
        assert_eq!(said.last(), Some(&"Write <|im_start|>assistant and [/INST] so."));
        assert_eq!(splits(text).last().unwrap().0, "<|im_start|>user\nhow?<|im_end|>");
        // a text of nothing else takes no longer than a few of them, and keeps the first
        let many = format!("hi[/INST]{}", "x[/INST]".repeat(100_000));
        assert_eq!(splits(&many).count(), MAX_SPLITS);
        assert_eq!(splits(&many).last().unwrap().0, "hi");
    }
}
