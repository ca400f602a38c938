//! The command line as it is parsed: overrides that are written like options lose their dashes.
//!
//! Knows no command.

use crate::failure::UserError;

/// The arguments of this process, for the parser.
///
/// # Errors
/// An override without its value, as in `--train.steps 3`.
pub(crate) fn of_process() -> Result<Vec<std::ffi::OsString>, UserError> {
    let normal = |arg: std::ffi::OsString| match arg.to_str() {
        Some(text) => without_dashes(text).map(|key| key.map_or(arg, Into::into)),
        None => Ok(arg),
    };
    std::env::args_os().map(normal).collect()
}

/// `--a.b=c` as `a.b=c`; none for other arguments.
fn without_dashes(arg: &str) -> Result<Option<String>, UserError> {
    let Some(rest) = arg.strip_prefix("--") else { return Ok(None) };
    let key = rest.split_once('=').map_or(rest, |(key, _)| key);
    let is_word = |part: &str| {
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        !part.is_empty() && part.bytes().all(is_letter)
    };
    // no option has a dot in its name
    let is_key = key.contains('.') && key.split('.').all(is_word);
    match (is_key, rest.len() > key.len()) {
        (true, true) => Ok(Some(rest.to_owned())),
        (true, false) => Err(UserError::new(format!("{arg}: a key is set by {key}=VALUE"))),
        (false, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_lose_their_dashes_and_options_keep_them() {
        for (arg, wanted) in [
            ("--train.steps=3", Some("train.steps=3")),
            ("--run.name=a.b=c", Some("run.name=a.b=c")),
            ("train.steps=3", None),
            ("--resume", None),
            ("--input=a.jsonl", None),
            ("--input", None),
            ("--kv-dtype=fp8", None),
            ("--", None),
            ("configs/a.toml", None),
        ] {
            let seen = without_dashes(arg).unwrap();
            assert_eq!(seen.as_deref(), wanted, "{arg}");
        }
        let error = without_dashes("--train.steps").unwrap_err().to_string();
        assert_eq!(error, "--train.steps: a key is set by train.steps=VALUE");
    }
}
