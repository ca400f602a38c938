//! What a program or a server is asked about a group, and its answer: the contract of
//! docs/rewards.md.
//!
//! Pure. It does not know how question and answer travel.

use joust_schema::prompt::Prompt;
use joust_schema::tables::FinishReason;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::group::PartGroup;

/// Largest reward, in distance from 0: sums and squares of rewards stay finite numbers.
const MAX_REWARD: f64 = 1e12;

/// Maximum number of characters of an answer in an error.
pub(super) const MAX_SHOWN_CHARS: usize = 120;

/// A question about a group, as JSON.
#[derive(Serialize)]
struct PartQuestion<'a> {
    id: &'a str,
    step: i64,
    prompt: &'a Prompt,
    completions: Vec<AskedCompletion<'a>>,
    reference: Option<&'a str>,
    row: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct AskedCompletion<'a> {
    text: &'a str,
    finish_reason: FinishReason,
    tokens: usize,
}

/// The question about a group: one line of JSON without its end.
pub(super) fn question(group: &PartGroup) -> Box<RawValue> {
    let request = &group.request;
    let completions = request.completions.iter().zip(&group.members);
    let columns = group.columns.as_deref().map(serde_json::from_str::<&RawValue>);
    let question = PartQuestion {
        id: &request.group_id.0,
        step: request.step,
        prompt: &group.prompt,
        completions: completions
            .map(|(text, member)| AskedCompletion {
                text,
                finish_reason: member.finish_reason,
                tokens: member.n_tokens,
            })
            .collect(),
        reference: request.reference.as_deref(),
        row: columns.map(|row| row.expect("the columns of a row are an object. This is a bug.")),
    };
    serde_json::value::to_raw_value(&question)
        .expect("a question has text keys only, so that it is JSON. This is a bug.")
}

/// Reads a line as the answer about a group of n members.
///
/// # Errors
/// Why it is none, with its beginning.
pub(super) fn read_line(line: &[u8], id: &str, n: usize) -> Result<Vec<Option<f64>>, String> {
    let text = String::from_utf8_lossy(line);
    let begins = || format!("it begins {:?}", shown(&text));
    let answer: Value = std::str::from_utf8(line)
        .map_err(|error| format!("the answer is no UTF-8 text ({error}); {}", begins()))
        .and_then(|text| {
            serde_json::from_str(text).map_err(|error| match has_odd_number(text) {
                true => format!("the answer has NaN or Infinity, which is no JSON; {}", begins()),
                false => format!("the answer is no JSON ({error}); {}", begins()),
            })
        })?;
    read_answer(&answer, id, n).map_err(|reason| format!("{reason}; {}", begins()))
}

/// Reads a value as the answer about a group of n members.
///
/// # Errors
/// Why it is none.
pub(super) fn read_answer(answer: &Value, id: &str, n: usize) -> Result<Vec<Option<f64>>, String> {
    let Value::Object(fields) = answer else {
        return Err(format!("the answer is {}, wanted an object", kind(answer)));
    };
    match fields.get("id") {
        Some(Value::String(seen)) if seen == id => {}
        Some(Value::String(seen)) => {
            return Err(format!("the answer has the id {:?}, wanted {id:?}", shown(seen)));
        }
        other => return Err(format!("its id is {}, wanted {id:?}", other.map_or("missing", kind))),
    }
    let rewards = match fields.get("rewards") {
        Some(Value::Array(rewards)) => rewards,
        other => {
            return Err(format!(
                "its rewards are {}, wanted a list",
                other.map_or("missing", kind)
            ));
        }
    };
    if rewards.len() != n {
        return Err(format!("it has {} rewards for {n} completions", rewards.len()));
    }
    let read = |(idx, reward): (usize, &Value)| match reward {
        Value::Null => Ok(None),
        // JSON has finite numbers only, and larger ones than f64 are refused when they are read
        Value::Number(number) => match number.as_f64() {
            Some(value) if value.abs() > MAX_REWARD => {
                Err(format!("rewards[{idx}] is {number}, wanted at most {MAX_REWARD:e} from 0"))
            }
            value => Ok(value),
        },
        other => Err(format!("rewards[{idx}] is {}, wanted a number or null", kind(other))),
    };
    rewards.iter().enumerate().map(read).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Whether a text that is no JSON would be some with `null` in place of Python's odd numbers.
fn has_odd_number(text: &str) -> bool {
    let with_null = ["-Infinity", "Infinity", "NaN"]
        .into_iter()
        .fold(text.to_owned(), |text, odd| text.replace(odd, "null"));
    with_null != text && serde_json::from_str::<Value>(&with_null).is_ok()
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests;
