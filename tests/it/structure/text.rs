//! Rust text without its comments, strings and tests, so that what is left can be searched by
//! words. Knows no files.

/// The text with comments, strings and characters replaced by blanks; lines stay where they are.
pub(super) fn without_comments_and_strings(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut left = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = end_of_literal(&chars, at);
        if end == at {
            left.push(chars[at]);
            at += 1;
        } else {
            left.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    left
}

/// Position after the comment, string or character that begins at `at`; `at` where none does.
fn end_of_literal(chars: &[char], at: usize) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let rest = &chars[at..];
    let starts_with =
        |pattern: &str| pattern.chars().enumerate().all(|(n, wanted)| rest.get(n) == Some(&wanted));
    if starts_with("//") {
        return at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len());
    }
    if starts_with("/*") {
        return at + end_of_block_comment(rest);
    }
    let begins_word = at == 0 || !is_word(chars[at - 1]);
    if begins_word && matches!(rest[0], 'r' | 'b' | 'c') {
        let letters = rest.iter().take_while(|c| matches!(c, 'r' | 'b' | 'c')).count();
        let hashes = rest[letters..].iter().take_while(|&&c| c == '#').count();
        let is_raw = rest[..letters].contains(&'r');
        if letters <= 2 && is_raw && rest.get(letters + hashes) == Some(&'"') {
            return at + end_of_raw_string(rest, letters + hashes + 1, hashes);
        }
    }
    match rest[0] {
        '"' => at + end_of_quoted(rest, '"'),
        // a lifetime has no quote after its first letter
        '\'' if rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'') => {
            at + end_of_quoted(rest, '\'')
        }
        _ => at,
    }
}

fn end_of_block_comment(chars: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_raw_string(chars: &[char], start: usize, hashes: usize) -> usize {
    let closes =
        |at: usize| chars[at] == '"' && (1..=hashes).all(|more| chars.get(at + more) == Some(&'#'));
    (start..chars.len()).find(|&at| closes(at)).map_or(chars.len(), |at| at + 1 + hashes)
}

fn end_of_quoted(chars: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// What `#[cfg(test)]` marks is blanked out; the names of modules that it declares are returned.
///
/// `text` has no comments and strings.
pub(super) fn without_tests(text: &str) -> (String, Vec<String>) {
    let mut left = String::new();
    let mut modules = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("#[cfg(test)]").or_else(|| rest.find("#[cfg(all(test")) {
        left.push_str(&rest[..start]);
        let item = &rest[start..];
        let length = length_of_item(item);
        let words: Vec<&str> = item[..length].split([' ', '\n', ';', '{']).collect();
        let is_module = |pair: &&[&str]| pair[0] == "mod";
        modules.extend(words.windows(2).find(is_module).map(|pair| pair[1].to_owned()));
        left.extend(item[..length].chars().filter(|&c| c == '\n'));
        rest = &item[length..];
    }
    left.push_str(rest);
    (left, modules)
}

/// Length of an item with its attributes: to its semicolon, or to the end of its braces.
fn length_of_item(text: &str) -> usize {
    let (mut braces, mut others) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '{' => braces += 1,
            '(' | '[' => others += 1,
            ')' | ']' => others -= 1,
            '}' => {
                braces -= 1;
                if braces <= 0 {
                    return at + 1;
                }
            }
            // a field, a variant or an arm ends with a comma
            ';' | ',' if braces == 0 && others == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}
