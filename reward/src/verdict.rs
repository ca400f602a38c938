//! Reads the judge's verdict from its output.
//!
//! It does not know which player was shown first, nor what happens to an invalid verdict (see the
//! arena). The rule follows the Reward Reasoning Model (arXiv 2505.14674) and the reward code of
//! its training: only the last box counts.

use joust_schema::tables::Verdict;

/// The end of the judge's thoughts.
const THINK_CLOSE: &str = "</think>";

/// Commands that only choose a font; they may wrap the answer or a part of it.
const FONT_COMMANDS: [&str; 18] = [
    "text",
    "textbf",
    "textit",
    "textrm",
    "textsf",
    "texttt",
    "textnormal",
    "mathbf",
    "mathrm",
    "mathit",
    "mathsf",
    "mathtt",
    "mbox",
    "boldsymbol",
    "bm",
    "bf",
    "rm",
    "emph",
];

/// Returns which of the two shown answers the judge prefers, or [`Verdict::Invalid`].
///
/// 1. Only the text after the last `</think>` counts; without the tag the thought was cut off:
///    invalid.
/// 2. The last `\boxed{` decides, up to its matching brace. If that brace is missing the answer was
///    cut off: invalid, even if an earlier box is complete.
/// 3. Font commands (`\text{..}`, `\mathbf{..}`, ...), braces, `**`, outer white space and one
///    final period are removed. What remains must be `Assistant` or `Solution`, then `1` or `2`, in
///    any case of letters.
///
/// Never panics, whatever the text.
pub fn parse(text: &str) -> Verdict {
    let Some(at) = text.rfind(THINK_CLOSE) else {
        return Verdict::Invalid;
    };
    let Some(boxed) = last_box(&text[at + THINK_CLOSE.len()..]) else {
        return Verdict::Invalid;
    };
    let Some(plain) = without_markup(boxed) else {
        return Verdict::Invalid;
    };
    let plain = plain.trim();
    let plain = plain.strip_suffix('.').unwrap_or(plain).trim_end().to_ascii_lowercase();
    let rest = plain.strip_prefix("assistant").or_else(|| plain.strip_prefix("solution"));
    match rest.map(str::trim_start) {
        Some("1") => Verdict::First,
        Some("2") => Verdict::Second,
        _ => Verdict::Invalid,
    }
}

/// Returns the content of the last `\boxed{...}`; `None` if there is no box or the last one is not
/// closed.
fn last_box(text: &str) -> Option<&str> {
    const COMMAND: &str = r"\boxed";
    let inside = text.rmatch_indices(COMMAND).find_map(|(at, _)| {
        // A mention of the command without a brace is not a box.
        text[at + COMMAND.len()..].trim_start().strip_prefix('{')
    })?;
    let mut depth = 1_usize;
    for (at, character) in inside.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&inside[..at]);
        }
    }
    None
}

/// Removes font commands, braces and `**`, and turns TeX spaces into blanks; `None` for any other
/// command.
fn without_markup(boxed: &str) -> Option<String> {
    let mut plain = String::with_capacity(boxed.len());
    let mut rest = boxed;
    while let Some(character) = rest.chars().next() {
        let tail = &rest[character.len_utf8()..];
        rest = match character {
            '\\' => {
                let name_bytes = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
                let (name, after) = tail.split_at(name_bytes);
                if FONT_COMMANDS.contains(&name) {
                    after
                } else if name.is_empty() && after.starts_with([' ', ',', ';', ':', '!']) {
                    plain.push(' ');
                    &after[1..]
                } else {
                    return None;
                }
            }
            '~' => {
                plain.push(' ');
                tail
            }
            '{' | '}' => tail,
            '*' if tail.starts_with('*') => &tail[1..],
            _ => {
                plain.push(character);
                tail
            }
        };
    }
    Some(plain)
}

#[cfg(test)]
mod tests;
