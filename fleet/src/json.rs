//! JSON as servers write it: of a repeated key the last value counts, and numbers that JSON does
//! not have (`NaN`, `Infinity`), as Python writes them, are null.
//!
//! It does not know what a body means.

use serde_json::Value;

use super::config::OddNumbers;

/// Maximum number of characters of a body in an error.
const MAX_SHOWN_CHARS: usize = 80;

/// Reads a body, with `odd` numbers as null or as no JSON.
///
/// # Errors
/// Why it is no JSON, with the place and the beginning of the body.
pub(crate) fn read(body: &[u8], odd: OddNumbers) -> Result<Value, String> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let text = String::from_utf8_lossy(body);
        format!("the answer is no JSON: {error}; it begins {:?}", shown(&text))
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match (serde_json::from_str(&without_odd_numbers(text)), odd) {
        (Ok(value), OddNumbers::Null) => Ok(value),
        (Ok(_), OddNumbers::Refused) => Err(format!(
            "the answer has NaN or Infinity, which is no JSON; it begins {:?}",
            shown(text)
        )),
        (Err(_), _) => Err(format!("the answer is no JSON: {error}; it begins {:?}", shown(text))),
    }
}

/// The message of an error body in one line: that of OpenAI's and similar forms, or the text.
pub(crate) fn error_message(body: &[u8]) -> String {
    let message = read(body, OddNumbers::Null).ok().and_then(|value| message_of(&value));
    let text = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn message_of(value: &Value) -> Option<String> {
    let error = [&value["error"]["message"], &value["message"], &value["detail"], &value["error"]];
    error.into_iter().find_map(Value::as_str).map(str::to_owned)
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

/// The text with null for `NaN`, `Infinity` and `-Infinity` outside of strings.
fn without_odd_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['"', 'N', 'I', '-']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let odd = ["NaN", "-Infinity", "Infinity"].into_iter().find(|odd| rest.starts_with(odd));
        let length = match odd {
            Some(odd) => {
                out.push_str("null");
                rest = &rest[odd.len()..];
                continue;
            }
            None if rest.starts_with('"') => string_length(rest),
            None => 1,
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out + rest
}

/// Length of the JSON string that a text begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_of_python_servers_is_read() {
        let cases = [
            ("{\"a\": 1, \"a\": 2}", json!({"a": 2})),
            (
                "\n\n  {\"a\": NaN, \"b\": [-Infinity, Infinity, -1]}",
                json!({"a": null, "b": [null, null, -1]}),
            ),
            (
                "{\"a\": \"NaN \\\" Infinity\", \"b\": NaN}",
                json!({"a": "NaN \" Infinity", "b": null}),
            ),
            ("\u{feff}{\"a\": null}", json!({"a": null})),
        ];
        for (text, value) in cases {
            assert_eq!(read(text.as_bytes(), OddNumbers::Null).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn odd_numbers_are_refused_where_null_has_a_meaning() {
        let error = read(b"{\"a\": [NaN]}", OddNumbers::Refused).unwrap_err();
        assert!(error.starts_with("the answer has NaN or Infinity, which is no JSON"), "{error}");
        assert_eq!(read(b"{\"a\": null}", OddNumbers::Refused), Ok(json!({"a": null})));
    }

    #[test]
    fn bodies_that_are_no_json_are_named_by_place_and_beginning() {
        let read = |body: &[u8]| read(body, OddNumbers::Null);
        let error = read(b"<html>Login</html>").unwrap_err();
        assert!(error.contains("column 1") && error.contains("<html>Login"), "{error}");
        let error = read(b"{\"a\": NaN, \"b\": }").unwrap_err();
        assert!(error.contains("column"), "{error}");
        assert!(read(b"").unwrap_err().contains("EOF"));
        let error = read(b"{\"a\": \"\xff says\"}").unwrap_err();
        assert!(error.contains("utf-8") && error.contains("says"), "{error}");
        assert!(read(b"\"NaN").is_err() && read(b"{\"a\": \"\\").is_err());
    }

    #[test]
    fn error_bodies_are_read_in_the_forms_that_servers_use() {
        let cases: [(&[u8], &str); 6] = [
            (b"{\"error\": {\"message\": \"too\\n long\", \"code\": 400}}", "too long"),
            (b"{\"object\": \"error\", \"message\": \"too long\"}", "too long"),
            (b"{\"detail\": \"Not Found\"}", "Not Found"),
            (b"{\"error\": \"busy\"}", "busy"),
            (b"plain\n text", "plain text"),
            (b"", ""),
        ];
        for (body, message) in cases {
            assert_eq!(error_message(body), message);
        }
    }
}
