//! What is known of the policy without its weights: how prompts become tokens, and where samples
//! end.
//!
//! Texts are made of tokens by joust's tokenizer alone, so that a server's never matters.

use std::sync::Arc;

use joust_engine::{Error as EngineError, ModelConfig, SampleEnd, Tokenizer};

use crate::config::RolloutConfig;
use crate::sampling::group_job::{GroupJob, RenderedGroup};

/// The policy that servers sample from.
pub struct ServedPolicy {
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) end: SampleEnd,
    /// Number of token ids.
    pub(super) vocab_size: usize,
    /// Maximum number of tokens of prompt and completion together.
    pub(super) max_context: usize,
}

impl ServedPolicy {
    /// With the settings that its engine would have.
    ///
    /// # Errors
    /// As [`Tokenizer::with_template_date`].
    pub fn new(
        model: &ModelConfig,
        tokenizer: &Tokenizer,
        config: &RolloutConfig,
    ) -> Result<Self, EngineError> {
        let engine = &config.engine;
        let tokenizer = tokenizer.with_template_date(&engine.template_date)?;
        let tokenizer = Arc::new(tokenizer.with_template_kwargs(&engine.chat_template_kwargs));
        Ok(Self {
            end: SampleEnd::new(Arc::clone(&tokenizer), model, &config.stop),
            tokenizer,
            vocab_size: model.vocab_size,
            max_context: engine.max_context_of(model),
        })
    }

    /// Renders the prompt of a group, and limits its completions to the context.
    ///
    /// # Errors
    /// As the engine's for a prompt that it refuses.
    pub(super) fn rendered(
        &self,
        job: GroupJob,
        config: &RolloutConfig,
    ) -> Result<RenderedGroup, EngineError> {
        let mut group = job.rendered(&self.tokenizer, config)?;
        let (tokens, limit) = (group.prompt_token_ids().len(), self.max_context - 1);
        if tokens == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        if tokens > limit {
            return Err(EngineError::PromptTooLong { tokens, limit });
        }
        let max_tokens = &mut group.params.max_tokens;
        *max_tokens = (*max_tokens).min(self.max_context - tokens);
        Ok(group)
    }
}
