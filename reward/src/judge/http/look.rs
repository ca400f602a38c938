//! A look at a server before its first call: does it have the model, is its context long enough,
//! does it read the judge's prompt as the same tokens?
//!
//! Servers without the routes for this are taken as they are; the log says so. A server that fails
//! is looked at again. It does not know when a look is due.

use std::path::{Path, PathBuf};
use std::time::Duration;

use joust_engine::tokenizer::Tokenizer;
use joust_fleet::{Inspected, InspectionError, RequestError, ServerClient};
use joust_schema::prompt::Message;
use serde_json::{Value, json};

use crate::config::judge::{HttpJudgeConfig, JudgeConfig};
use crate::error::Error;
use crate::prompt;

/// Maximum time of one request.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of models that an error lists.
const MAX_LISTED: usize = 10;

/// Average number of bytes of the judge's prompt in a token, where no tokenizer tells.
const BYTES_PER_TOKEN: usize = 4;

/// What a server is compared with.
pub(super) struct ServerLook {
    model: String,
    max_thinking_tokens: usize,
    tokenizer: Option<JudgeTokenizer>,
}

/// The judge's tokenizer on this machine.
struct JudgeTokenizer {
    dir: PathBuf,
    tokenizer: Tokenizer,
}

impl ServerLook {
    /// Prepares looks at the servers of `http`.
    ///
    /// # Errors
    /// [`Error::Model`] if the tokenizer's files are missing or broken.
    pub(super) fn new(http: &HttpJudgeConfig, config: &JudgeConfig) -> Result<Self, Error> {
        let named = Path::new(&http.model);
        let dir = match &http.tokenizer {
            Some(dir) => Some(dir.clone()),
            // servers name a model by its folder if nothing else is set
            None => named.join("tokenizer.json").is_file().then(|| named.to_owned()),
        };
        let open = |dir: PathBuf| -> Result<JudgeTokenizer, Error> {
            let key = "reward.judge.tokenizer";
            let tokenizer =
                Tokenizer::from_folder(&dir).map_err(|source| Error::Model { key, source })?;
            Ok(JudgeTokenizer { dir, tokenizer })
        };
        Ok(Self {
            model: http.model.clone(),
            max_thinking_tokens: config.max_thinking_tokens,
            tokenizer: dir.map(open).transpose()?,
        })
    }

    /// Looks at a server.
    pub(super) async fn look(&self, server: &ServerClient) -> Inspected {
        let url = format!("{}/models", server.base());
        match server.get(&url, TIMEOUT).await {
            Ok(models) => self.check_models(server.base(), &models)?,
            Err(error) if may_be_seen_later(&error) => {
                return Err(InspectionError::Unseen(error));
            }
            Err(RequestError::Moved { to, .. }) if to.ends_with("/models") => {
                let (base, to) = (server.base(), to.trim_end_matches("/models"));
                return Err(InspectionError::Unusable(format!(
                    "judge.urls holds {base}, which redirects to {to}: a redirect of this kind \
                     loses the body of a call; set judge.urls to that address"
                )));
            }
            Err(reason) => {
                tracing::info!(%reason, "A server does not list its models; it is not checked.");
            }
        }
        if let Some(judge) = &self.tokenizer {
            self.check_tokens(server, judge).await?;
        }
        Ok(())
    }

    /// Checks the list of a server's models.
    fn check_models(&self, url: &str, models: &Value) -> Inspected {
        let listed = models["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = listed.iter().filter_map(|model| model["id"].as_str()).collect();
        // Ollama lists the tag that a name without one means
        let latest = format!("{}:latest", self.model);
        let is_wanted = |name: &str| name == self.model || name == latest;
        let wanted = listed.iter().find(|model| model["id"].as_str().is_some_and(is_wanted));
        match wanted {
            _ if names.is_empty() => Ok(()),
            None => Err(InspectionError::Unusable(format!(
                "judge.model is {:?}, which {url} does not have; it has {}",
                self.model,
                listed_names(&names)
            ))),
            Some(model) => self.check_context(url, model["max_model_len"].as_u64()),
        }
    }

    /// Checks the length of a server's context.
    fn check_context(&self, url: &str, max_model_len: Option<u64>) -> Inspected {
        let Some(context) = max_model_len.map(|length| length as usize) else { return Ok(()) };
        let thought = self.max_thinking_tokens;
        if thought > context {
            return Err(InspectionError::Unusable(format!(
                "judge.max_thinking_tokens is {thought}, but the context of {url} holds {context} \
                 tokens (max_model_len), so that it refuses every call; set less, or serve with a \
                 longer context"
            )));
        }
        let prompt = self.template_tokens();
        if prompt + thought > context {
            tracing::warn!(
                url,
                max_model_len = context,
                prompt_tokens = prompt,
                max_thinking_tokens = thought,
                "A server's context is shorter than the judge's prompt, without question and \
                 answers, and a whole thought: long thoughts will be cut off. Set \
                 judge.max_thinking_tokens to less, or serve with a longer context."
            );
        }
        Ok(())
    }

    /// Tokens of the judge's prompt without question and answers.
    fn template_tokens(&self) -> usize {
        let messages = prompt::messages("", "", "");
        let of_judge = self.tokenizer.as_ref().and_then(|judge| judge.encode(&messages).ok());
        let n_bytes: usize = messages.iter().map(|message| message.content.len()).sum();
        of_judge.map_or(n_bytes / BYTES_PER_TOKEN, |(_, ids)| ids.len())
    }

    /// Compares a server's tokens of a prompt with those of the judge's tokenizer.
    async fn check_tokens(&self, server: &ServerClient, judge: &JudgeTokenizer) -> Inspected {
        let messages = probe();
        let (text, ids) = judge.encode(&messages).map_err(|error| {
            InspectionError::Unusable(format!("{}: {error}", judge.dir.display()))
        })?;
        let base = server.base();
        let url = format!("{}/tokenize", base.strip_suffix("/v1").unwrap_or(base));
        // the names of vLLM and SGLang, and those of llama.cpp
        let as_text = tokens_of(
            server,
            &url,
            json!({
                "model": self.model, "prompt": text, "add_special_tokens": false,
                "content": text, "add_special": false, "parse_special": true,
            }),
        );
        match as_text.await {
            Ok(Some(theirs)) if theirs != ids => {
                return Err(InspectionError::Unusable(judge.mismatch(base, &theirs, &ids)));
            }
            Ok(Some(_)) => {}
            Err(error) if may_be_seen_later(&error) => {
                return Err(InspectionError::Unseen(error));
            }
            Ok(None) | Err(_) => {
                tracing::info!(url, "A server does not tokenize; its tokens are not checked.");
                return Ok(());
            }
        }
        let as_chat = json!({
            "model": self.model, "messages": messages, "add_generation_prompt": true,
        });
        if let Ok(Some(theirs)) = tokens_of(server, &url, as_chat).await
            && theirs != ids
        {
            tracing::warn!(
                url,
                n_tokens = theirs.len(),
                wanted = ids.len(),
                "A server renders the judge's prompt by another chat template than that of \
                 judge.tokenizer."
            );
        }
        Ok(())
    }
}

impl JudgeTokenizer {
    /// The rendered messages and their tokens.
    fn encode(&self, messages: &[Message]) -> Result<(String, Vec<u32>), joust_engine::Error> {
        let text = match self.tokenizer.has_chat_template() {
            true => self.tokenizer.render_chat(messages, true)?,
            false => messages.iter().map(|message| &*message.content).collect(),
        };
        let ids = self.tokenizer.encode(&text)?;
        Ok((text, ids))
    }

    /// Says that a server has another tokenizer, and what to do.
    fn mismatch(&self, url: &str, theirs: &[u32], ids: &[u32]) -> String {
        let at = theirs.iter().zip(ids).take_while(|(a, b)| a == b).count();
        let (n_theirs, n_ids, dir) = (theirs.len(), ids.len(), self.dir.display());
        format!(
            "{url} reads the judge's prompt as {n_theirs} tokens, the tokenizer in {dir} as \
             {n_ids} (they differ from token {at}): its votes would be worthless. Serve with \
             --tokenizer and a folder that holds tokenizer.json and tokenizer_config.json but no \
             config.json, which makes transformers 5 choose another one (docs/judge-servers.md)"
        )
    }
}

/// A prompt whose tokens tell tokenizers apart: digits, other scripts, code, white space.
fn probe() -> [Message; 2] {
    prompt::messages(
        "What is 47 + 93? Naïve «日本語» 🙂\n\n\tif x <= 10:  return 1e-5",
        "47 + 93 = 140.\n\n\\boxed{140}",
        "It's 1,234.5 %, I don't know!",
    )
}

fn listed_names(names: &[&str]) -> String {
    let shown: Vec<String> =
        names.iter().take(MAX_LISTED).map(|name| format!("{name:?}")).collect();
    match names.len().saturating_sub(MAX_LISTED) {
        0 => shown.join(", "),
        n_more => format!("{} and {n_more} more", shown.join(", ")),
    }
}

/// Whether a failure says nothing about the server's routes.
fn may_be_seen_later(error: &RequestError) -> bool {
    matches!(error, RequestError::Gone(..) | RequestError::Busy(..) | RequestError::Failed(..))
}

/// The tokens that a server gives; `None` if it gives none.
async fn tokens_of(
    server: &ServerClient,
    url: &str,
    body: Value,
) -> Result<Option<Vec<u32>>, RequestError> {
    let answer = server.post(url, body.to_string().into_bytes(), TIMEOUT).await?;
    Ok(token_ids(&answer["tokens"]).filter(|ids| !ids.is_empty()))
}

/// Token ids; `None` for anything but a list of them.
fn token_ids(tokens: &Value) -> Option<Vec<u32>> {
    tokens.as_array()?.iter().map(|id| u32::try_from(id.as_u64()?).ok()).collect()
}
