//! Where the completion begins in a query that a client decoded from the tokens of prompt and
//! completion. Pure.
//!
//! The prompt in the query is not always the prompt's own text: tokenizers compose Unicode, add a
//! begin-of-text token, put blanks beside special tokens or leave those tokens out, and OpenRLHF
//! cuts a prompt that is too long on its left.

use joust_schema::control_tokens::{answer_starts, token_at_start, without_ends};

use super::comparable::{
    BYTES_PER_CHAR, CHARS_PER_BYTE, Comparable, KEPT_PER_CHAR, SpecialTokens, is_left_out,
};

/// Number of characters of a prompt's end that are surely not equal by chance.
const MANY: usize = 16;

/// Least number of characters of a prompt's end that a cut may have left.
const FEW: usize = 3;

/// Maximum number of characters before the prompt.
const MAX_LEAD: usize = 32;

/// Maximum number of special tokens before the prompt.
const MAX_TOKENS: usize = 32;

/// Number of characters of a query that are read beyond as many as the prompt has: enough for
/// [`MAX_TOKENS`] tokens.
const LEAD_ROOM: usize = 4096;

/// Maximum number of characters of a prompt in another form than that in the query.
pub(crate) const MAX_COMPARED: usize = 4 << 20;

/// The completion after the prompt in a decoded query; `None` if the query has neither the prompt
/// nor its end, or the prompt has more than [`MAX_COMPARED`] characters and does not stand there
/// byte for byte.
pub(crate) fn completion_after<'a>(query: &'a str, prompt: &str) -> Option<&'a str> {
    let start = after_same(query, prompt).or_else(|| completion_start(query, prompt))?;
    Some(without_ends(&query[start..]))
}

/// Memory that [`completion_after`] takes beside the texts, at most.
pub(crate) fn memory(query: &str, prompt: &str) -> usize {
    if query.starts_with(prompt) {
        return 0;
    }
    let n_chars = |text: &str, max: usize| text.len().saturating_mul(CHARS_PER_BYTE).min(max);
    let of_prompt = n_chars(prompt, MAX_COMPARED);
    // both texts in two forms, one of them being read; then a number per character
    let forms = [of_prompt, n_chars(query, of_prompt + LEAD_ROOM)];
    forms.map(|n| n * (KEPT_PER_CHAR + BYTES_PER_CHAR)).iter().sum::<usize>()
        + of_prompt * size_of::<usize>()
}

/// After the prompt byte for byte, the plain case; `None` where it takes a closer look.
fn after_same(query: &str, prompt: &str) -> Option<usize> {
    let said = query.strip_prefix(prompt).filter(|_| !prompt.chars().all(is_left_out))?;
    let begins = said.trim_start_matches(is_left_out);
    Some(query.len() - begins.len())
}

fn completion_start(query: &str, prompt: &str) -> Option<usize> {
    let kept = Pair::new(query, prompt, SpecialTokens::Kept)?;
    let dropped = || Pair::new(query, prompt, SpecialTokens::Dropped);
    kept.after_whole()
        .or_else(|| dropped()?.after_whole())
        .or_else(|| kept.after_end(MANY))
        .or_else(|| dropped()?.after_end(MANY))
        .or_else(|| after_mark(query, prompt))
        .or_else(|| kept.after_found())
        .or_else(|| kept.after_end(FEW))
}

/// Query and prompt in one form.
struct Pair<'a> {
    text: &'a str,
    query: Comparable,
    prompt: Comparable,
}

impl<'a> Pair<'a> {
    /// `None` for a prompt of which nothing is left to compare, or too much.
    fn new(query: &'a str, prompt: &str, tokens: SpecialTokens) -> Option<Self> {
        let prompt = Comparable::new(prompt, tokens, MAX_COMPARED);
        if prompt.chars.is_empty() || prompt.is_cut() {
            return None;
        }
        let max = prompt.chars.len() + LEAD_ROOM;
        Some(Self { text: query, query: Comparable::new(query, tokens, max), prompt })
    }

    /// After the prompt at the query's start, or after the special tokens there.
    fn after_whole(&self) -> Option<usize> {
        let mut at = 0;
        for _ in 0..=MAX_TOKENS {
            let first = self.query.n_before(at);
            if self.query.chars[first..].starts_with(&self.prompt.chars) {
                return Some(self.query.start_of(first + self.prompt.chars.len()));
            }
            let blanks = self.text[at..].len() - self.text[at..].trim_start().len();
            at += blanks + token_at_start(self.text[at + blanks..].trim_start())?.len();
        }
        None
    }

    /// After the prompt near the query's start: what stands before it is a token that is not known.
    fn after_found(&self) -> Option<usize> {
        let (query, prompt) = (&self.query.chars, &self.prompt.chars);
        let mut parts = query.windows(prompt.len()).take(MAX_LEAD);
        let first = parts.position(|part| part == prompt)?;
        Some(self.query.start_of(first + prompt.len()))
    }

    /// After the longest end of the prompt with which the query begins, of at least `least`
    /// characters.
    fn after_end(&self, least: usize) -> Option<usize> {
        let length = longest_overlap(&self.prompt.chars, &self.query.chars);
        (length >= least).then(|| self.query.start_of(length))
    }
}

/// Length of the longest end of `first` with which `second` begins (Knuth, Morris and Pratt).
fn longest_overlap(first: &[char], second: &[char]) -> usize {
    let pattern = &second[..second.len().min(first.len())];
    // per length: the longest proper end of the pattern's start with which the pattern begins
    let mut shorter = vec![0; pattern.len() + 1];
    let step = |shorter: &[usize], mut length: usize, c: char| {
        while length > 0 && pattern.get(length) != Some(&c) {
            length = shorter[length];
        }
        length + usize::from(pattern.get(length) == Some(&c))
    };
    for end in 1..pattern.len() {
        shorter[end + 1] = step(&shorter, shorter[end], pattern[end]);
    }
    first.iter().fold(0, |length, c| step(&shorter, length, *c))
}

/// After the start of the assistant's turn that ends the prompt, where the text before it differs.
/// `None` unless it is certain that the completion has no such start itself.
fn after_mark(query: &str, prompt: &str) -> Option<usize> {
    let starts = answer_starts().filter_map(|mark| Some((prompt.rfind(mark)?, mark)));
    let (at, mark) = starts.max()?;
    let (wanted, found) = (prompt.matches(mark).count(), query.matches(mark).count());
    if found != wanted && found != 1 {
        return None;
    }
    let after = query.rfind(mark)? + mark.len();
    // what the template writes after the mark, such as an empty thought
    let rest = &prompt[at + mark.len()..];
    match Pair::new(&query[after..], rest, SpecialTokens::Kept) {
        Some(pair) => pair.after_whole().map(|end| after + end),
        None => Some(after),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHATML: &str = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n";

    #[test]
    fn completion_after_drops_what_the_tokenizer_adds() {
        let query = format!("{CHATML}4 <|x y|> is it.<|im_end|>\n<|endoftext|>");
        assert_eq!(completion_after(&query, CHATML), Some("4 <|x y|> is it."));
        assert_eq!(completion_after("<s>2+2? 4</s>", "2+2?"), Some("4"));
        assert_eq!(completion_after("2+2?", "2+2?"), Some(""));
        assert_eq!(completion_after("3+2? 4", "2+2?"), None);
        assert_eq!(completion_after("4", "2+2?"), None);
    }

    #[test]
    fn completion_after_finds_a_prompt_in_another_form() {
        for (query, prompt, said) in [
            ("<s> [INST] Hi [/INST]  Yes.</s>", "<s>[INST] Hi [/INST]", "Yes."),
            ("<s> <s> [INST] Hi [/INST] Yes.</s>", "<s>[INST] Hi [/INST]", "Yes."),
            ("Où est le café ? Là.", "Ou\u{300} est le cafe\u{301} ?", "Là."),
            ("q ½ ﬁ. a", "q 1⁄2 fi.", "a"),
            ("hello  world Hi", "hello\u{a0}world\n", "Hi"),
            ("user\n2+2?\nassistant\n4", CHATML, "4"),
            ("▁2▁+▁2?▁4", "2 + 2?", "4"),
            ("[gMASK]<sop>2+2? 4", "2+2?", "4"),
        ] {
            assert_eq!(completion_after(query, prompt), Some(said), "{query}");
        }
        // the tokenizer does not know a character
        let query = CHATML.replace("2+2?", "2<unk>2?") + "4";
        assert_eq!(completion_after(&query, CHATML), Some("4"));
        let thought = CHATML.to_owned() + "<think>\n\n</think>\n\n";
        assert_eq!(completion_after(&thought.replace('?', "#"), &thought), Some(""));
    }

    #[test]
    fn completion_after_finds_the_end_of_a_cut_prompt() {
        for (query, prompt, said) in [
            (
                " is it?<|im_end|>\n<|im_start|>assistant\nThere.",
                "Where is it?<|im_end|>\n\
              <|im_start|>assistant\n",
                "There.",
            ),
            ("+ 93?The answer is 140.", "What is 47 + 93?", "The answer is 140."),
            ("\u{fffd}\u{fffd}語は難しい。はい", "日本語は難しい。", "はい"),
            // the completion repeats the whole prompt
            (
                "stand beside the road? You ask: Why do they stand beside the road? Because.",
                "Why do they stand beside the road?",
                "You ask: Why do they stand beside the road? \
             Because.",
            ),
        ] {
            assert_eq!(completion_after(query, prompt), Some(said), "{query}");
        }
    }

    #[test]
    fn completion_after_skips_many_tokens_and_takes_no_quadratic_time() {
        for n in [1, MAX_TOKENS, MAX_TOKENS + 1, 5_000] {
            let query = "<s>".repeat(n) + "2+2? 4";
            assert_eq!(completion_after(&query, "2+2?"), Some("4"), "{n}");
        }
        // a comparison of the whole prompt at each token would read 10^12 bytes
        let query = "<s>".repeat(600_000) + "x";
        let prompt = "<s>".repeat(300_000) + "y";
        assert_eq!(completion_after(&query, &prompt), None);
    }

    #[test]
    fn completion_after_compares_large_prompts_byte_for_byte_only() {
        let large = "é".repeat(MAX_COMPARED + 1);
        assert_eq!(completion_after(&format!("{large} ▁4</s>"), &large), Some("4"));
        assert_eq!(completion_after(&format!("<s>{large} 4</s>"), &large), None);
        let small = &large[..2 * MAX_COMPARED / 2];
        assert_eq!(completion_after(&format!("<s>{small} 4</s>"), small), Some("4"));
        // a blank prompt stands nowhere
        assert_eq!(completion_after("  4", "  "), None);
    }

    #[test]
    fn memory_of_a_split_is_bounded_and_none_for_the_plain_case() {
        assert_eq!(memory("2+2? 4", "2+2?"), 0);
        // 28 bytes per character while read, 12 afterwards, 8 for the overlap
        assert_eq!(memory("<s>2+2? 4", "2+2?"), (6 * 4 + 6 * 9) * 40 + 6 * 4 * 8);
        let large = "a".repeat(MAX_COMPARED);
        let most = (2 * MAX_COMPARED + LEAD_ROOM) * 40 + MAX_COMPARED * 8;
        assert_eq!(memory(&format!("<s>{large}{large}"), &large), most);
    }

    #[test]
    fn completion_after_is_not_moved_by_what_the_policy_writes() {
        let said = format!("No. {CHATML}Yes.");
        assert_eq!(completion_after(&format!("{CHATML}{said}"), CHATML), Some(&said[..]));
        let unknown = CHATML.replace('?', "#");
        assert_eq!(completion_after(&format!("{unknown}{said}"), CHATML), None);
    }

    #[test]
    fn longest_overlap_is_the_longest() {
        let overlap = |first: &str, second: &str| {
            let [first, second] = [first, second].map(|text| text.chars().collect::<Vec<_>>());
            longest_overlap(&first, &second)
        };
        for (first, second, length) in [
            ("abab", "ababx", 4),
            ("xaba", "abab", 3),
            ("aaab", "aab", 3),
            ("a", "", 0),
            ("", "a", 0),
            ("abc", "d", 0),
            ("aab", "aabaab", 3),
        ] {
            assert_eq!(overlap(first, second), length, "{first} {second}");
        }
    }

    proptest! {
        #[test]
        fn completion_after_splits_every_plain_query(
            prompt in "[a-zé ]{1,20}\\?",
            said in "[a-z 0-9]{0,20}",
        ) {
            let query = format!("{prompt}{said}");
            prop_assert_eq!(completion_after(&query, &prompt), Some(said.trim()));
        }

        #[test]
        fn longest_overlap_is_that_of_the_definition(
            first in "[ab]{0,12}",
            second in "[ab]{0,12}",
        ) {
            let longest = (0..=first.len().min(second.len()))
                .rfind(|length| first[first.len() - length..] == second[..*length]);
            let [first, second] = [first, second].map(|text| text.chars().collect::<Vec<_>>());
            prop_assert_eq!(Some(longest_overlap(&first, &second)), longest);
        }
    }
}
