//! Text in lines of a width, as Python's `textwrap` breaks them.

/// How lines are broken.
pub(super) struct WrapStyle {
    pub(super) width: usize,
    pub(super) breaks_long_words: bool,
    pub(super) breaks_at_hyphens: bool,
}

impl WrapStyle {
    /// Lines of a paragraph. Blanks at the ends of lines are dropped.
    pub(super) fn lines(&self, paragraph: &str) -> Vec<String> {
        let mut chunks = self.chunks(&paragraph.chars().collect::<Vec<_>>());
        chunks.reverse();
        let mut lines: Vec<String> = Vec::new();
        while !chunks.is_empty() {
            if !lines.is_empty() && chunks.last().is_some_and(|chunk| is_blank(chunk)) {
                chunks.pop();
            }
            let (mut line, mut len) = (Vec::new(), 0);
            while let Some(chunk) = chunks.pop_if(|chunk| len + chunk.len() <= self.width) {
                len += chunk.len();
                line.push(chunk);
            }
            if chunks.last().is_some_and(|chunk| chunk.len() > self.width) {
                self.part_of_long_word(&mut chunks, &mut line, len);
            }
            if line.last().is_some_and(|chunk| is_blank(chunk)) {
                line.pop();
            }
            if !line.is_empty() {
                lines.push(line.concat().into_iter().collect());
            }
        }
        lines
    }

    /// Moves what fits of a word that is longer than a line.
    fn part_of_long_word(
        &self,
        chunks: &mut Vec<Vec<char>>,
        line: &mut Vec<Vec<char>>,
        len: usize,
    ) {
        let Some(chunk) = chunks.last_mut() else { return };
        if !self.breaks_long_words {
            if line.is_empty() {
                line.extend(chunks.pop());
            }
            return;
        }
        let mut end = self.width - len;
        if self.breaks_at_hyphens
            && let Some(hyphen) = chunk[..end].iter().rposition(|c| *c == '-')
            && chunk[..hyphen].iter().any(|c| *c != '-')
        {
            end = hyphen + 1;
        }
        let rest = chunk.split_off(end);
        line.push(std::mem::replace(chunk, rest));
    }

    /// Words, parts of words with hyphens, and the blanks between them.
    fn chunks(&self, text: &[char]) -> Vec<Vec<char>> {
        let mut chunks = Vec::new();
        let mut start = 0;
        for at in 1..=text.len() {
            let is_end = at == text.len()
                || is_space(text[at - 1]) != is_space(text[at])
                || self.breaks_at_hyphens && !is_space(text[at]) && is_hyphenation(text, start, at);
            if is_end {
                chunks.push(text[start..at].to_vec());
                start = at;
            }
        }
        chunks
    }
}

/// Whether a word that begins at `start` may be broken before `at`: after the hyphen between two
/// words of letters, and around dashes.
fn is_hyphenation(text: &[char], start: usize, at: usize) -> bool {
    let is = |at: Option<usize>, test: fn(char) -> bool| {
        at.and_then(|at| text.get(at)).is_some_and(|c| test(*c))
    };
    let before = |n: usize| at.checked_sub(n);
    let is_dash = |c: char| c == '-';
    let n_dashes = |from: usize| text[from..].iter().take_while(|c| **c == '-').count();
    let is_dash_from = |from: usize| {
        let n = n_dashes(from);
        n >= 2 && is(Some(from + n), is_word) && is(from.checked_sub(1), is_punctuated)
    };
    if is_dash_from(at) && !is(before(1), is_dash) {
        return true;
    }
    let n_before = text[start..at].iter().rev().take_while(|c| **c == '-').count();
    if n_before == at - start && n_before >= 2 && is_dash_from(start) && text[at] != '-' {
        return true;
    }
    let follows = is(before(2), is_letter) && is(before(3), is_letter)
        || is(before(2), is_punctuated) && is(before(3), is_dash) && is(before(4), is_letter);
    let goes_on = is(Some(at), is_letter)
        && (is(Some(at + 1), is_letter)
            || is(Some(at + 1), is_dash) && is(Some(at + 2), is_letter));
    at - start >= 2 && is(before(1), is_dash) && follows && goes_on
}

fn is_space(c: char) -> bool {
    "\t\n\u{b}\u{c}\r ".contains(c)
}

fn is_blank(chunk: &[char]) -> bool {
    chunk.iter().all(|c| c.is_whitespace())
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn is_letter(c: char) -> bool {
    is_word(c) && !c.is_numeric()
}

fn is_punctuated(c: char) -> bool {
    is_word(c) || "!\"'&.,?".contains(c)
}
