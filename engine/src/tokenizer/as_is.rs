//! How a model folder says that its `tokenizer.json` is to be taken as it is.
//!
//! transformers 5 gives some families of models (Qwen2 among them) a tokenizer of its own making,
//! of which only vocabulary and merges are the file's, whatever `tokenizer_class` says: a tokenizer
//! that splits text otherwise then gives other tokens, in vLLM and SGLang too. A class in the
//! folder (`auto_map`) turns this off. Programs that do not run code of folders, the default, then
//! take the file by the class that `tokenizer_class` names; the others run the class below, which
//! does the same.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::Error;

/// File of the class, beside `tokenizer.json`.
pub(crate) const FILE: &str = "tokenizer_as_is.py";

const CLASS: &str = "tokenizer_as_is.TokenizerAsIs";

const CODE: &str = "\
# tokenizer.json as it is: see `auto_map` in tokenizer_config.json.
from transformers import PreTrainedTokenizerFast


class TokenizerAsIs(PreTrainedTokenizerFast):
    pass
";

/// The value of `auto_map` in `tokenizer_config.json`: no slow tokenizer, and the class.
pub(super) fn auto_map() -> Value {
    json!({"AutoTokenizer": [null, CLASS]})
}

/// Writes the class beside a configuration that names it.
pub(super) fn save(dir: &Path, config: &Map<String, Value>) -> Result<(), Error> {
    if config.get("auto_map") != Some(&auto_map()) {
        return Ok(());
    }
    let path = dir.join(FILE);
    std::fs::write(&path, CODE).map_err(|source| Error::io(&path, source))
}
