//! Regular expressions that match whole texts.
//!
//! Pure. It does not know parts.

use regex::Regex;

/// An expression that matches where `pattern` matches a text from its beginning to its end.
///
/// # Errors
/// What is wrong with the pattern, in one line.
pub(crate) fn whole_match(pattern: &str) -> Result<Regex, String> {
    // read alone first: brackets of its own may not close those around it
    let read = |pattern: &str| Regex::new(pattern).map_err(|error| in_one_line(&error));
    read(pattern)?;
    read(&format!("\\A(?:{pattern})\\z"))
}

/// The last line of the message; the others show the place in the pattern.
fn in_one_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_match_names_what_is_wrong_with_a_pattern_in_one_line() {
        for (pattern, wanted) in [
            ("(a", "unclosed group"),
            ("a)|(b", "unopened group"),
            ("(?=a)", "look-around"),
            ("a{999999}", "limit"),
        ] {
            let error = whole_match(pattern).unwrap_err();
            assert!(error.contains(wanted) && !error.contains('\n'), "{pattern}: {error}");
        }
    }
}
