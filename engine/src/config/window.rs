//! Sliding windows: whether a configuration has one that some token would notice. No layer of this
//! engine has a window.

use serde_json::Value;

use super::family::WindowRule;
use super::keys::ModelConfigKeys;
use crate::error::Error;

/// Defaults of transformers for configurations without these keys.
const DEFAULT_WINDOW: usize = 4_096;
const DEFAULT_FIRST_LAYER: usize = 28;
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Refuses a model in which some layer attends to fewer tokens than a context may have.
///
/// # Errors
/// [`Error::Unsupported`] names the window, [`Error::BadConfig`] a value that contradicts another.
pub(super) fn refuse_effective_window(
    keys: &ModelConfigKeys<'_>,
    rule: WindowRule,
    n_layers: usize,
    max_position: usize,
) -> Result<(), Error> {
    let (first, switch) = match rule {
        WindowRule::Never => return Ok(()),
        WindowRule::Switched => {
            (switched_layer(keys, n_layers)?, "use_sliding_window = true with ")
        }
        WindowRule::Always => (Some(0), ""),
    };
    let Some(first) = first else { return Ok(()) };
    let window = match (keys.is_given("sliding_window"), keys.has("sliding_window")) {
        (false, _) => DEFAULT_WINDOW,
        // null: no window
        (true, false) => return Ok(()),
        (true, true) => keys.size("sliding_window")?,
    };
    match window >= max_position {
        true => Ok(()),
        false => Err(keys.unsupported(format!(
            "{switch}sliding_window {window} from layer {first} on (wanted a window of at least \
             max_position_embeddings, {max_position})"
        ))),
    }
}

/// The first layer with a window of a model that switches windows on, if there is one.
fn switched_layer(keys: &ModelConfigKeys<'_>, n_layers: usize) -> Result<Option<usize>, Error> {
    let is_on = keys.flag("use_sliding_window");
    let first = first_windowed_layer(keys, is_on, n_layers)?;
    match first.filter(|_| !is_on) {
        Some(first) => Err(keys.bad(format!(
            "layer_types has {SLIDING} for layer {first}, and use_sliding_window is false"
        ))),
        None => Ok(first),
    }
}

/// The first layer with a window, if there is one.
fn first_windowed_layer(
    keys: &ModelConfigKeys<'_>,
    is_on: bool,
    n_layers: usize,
) -> Result<Option<usize>, Error> {
    let Some(types) = keys.get("layer_types") else {
        let first = match keys.is_given("max_window_layers") {
            true => keys.get("max_window_layers").and_then(Value::as_u64),
            false => Some(DEFAULT_FIRST_LAYER as u64),
        };
        let first = first.ok_or_else(|| keys.bad("key `max_window_layers` is no number"))? as usize;
        return Ok(Some(first).filter(|&first| is_on && first < n_layers));
    };
    let Some(types) = types.as_array().filter(|types| types.len() >= n_layers) else {
        return Err(keys.bad(format!("key `layer_types` is no list of {n_layers} layers")));
    };
    if let Some(other) = types.iter().find(|kind| *kind != FULL && *kind != SLIDING) {
        return Err(keys.unsupported(format!("layer_types with {other}")));
    }
    Ok(types[..n_layers].iter().position(|kind| kind == SLIDING))
}
