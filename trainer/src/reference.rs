//! The reference that a policy is held at, and its refresh: every few steps it moves towards the
//! policy (TR-DPO, arXiv 2404.09656). It knows no loss.

use std::path::Path;

use joust_engine::weights::{self, WeightMap};
use joust_engine::{Decoder, LoraConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::weights::frozen::FrozenModel;

/// Refresh of the reference; meanings and defaults are those of TRL's `ref_model_sync_steps` and
/// `ref_model_mixup_alpha`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SyncRefModel {
    /// Number of steps between refreshes. Default: 512.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// Share α of the policy: the reference becomes α · policy + (1 − α) · reference. Default: 0.6.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub mixup_alpha: f64,
}

impl Default for SyncRefModel {
    fn default() -> Self {
        Self { every: 512, mixup_alpha: 0.6 }
    }
}

/// The reference, which is never trained, and its refresh.
pub(crate) struct Reference {
    pub(crate) model: FrozenModel,
    sync: Option<SyncRefModel>,
}

impl Reference {
    pub(crate) fn new(model: FrozenModel, sync: Option<SyncRefModel>) -> Self {
        Self { model, sync }
    }

    /// Whether the reference changes, so that it belongs to a training state.
    pub(crate) fn is_refreshed(&self) -> bool {
        self.sync.is_some()
    }

    /// Moves the reference towards the policy, if that is due after `n_steps` steps. The mix is
    /// computed in f32 (f64 where one of the two is), and rounded to the reference's format.
    /// `policy`: what this rank has of the policy, as [`FrozenModel::own_values`].
    ///
    /// # Errors
    /// Those of `policy`.
    pub(crate) fn refresh(
        &self,
        policy: impl FnOnce() -> Result<Vec<Tensor>, Error>,
        n_steps: u64,
    ) -> Result<(), Error> {
        let Some(SyncRefModel { every, mixup_alpha }) = self.sync else { return Ok(()) };
        if n_steps == 0 || !n_steps.is_multiple_of(every) {
            return Ok(());
        }
        let _guard = tch::no_grad_guard();
        let (mine, policy) = (self.model.own_values(), policy()?);
        for (mut mine, theirs) in mine.into_iter().zip(policy) {
            assert_eq!(
                mine.size(),
                theirs.size(),
                "policy and reference have one layout. This is a bug."
            );
            let is_double = [mine.kind(), theirs.kind()].contains(&Kind::Double);
            let wide = if is_double { Kind::Double } else { Kind::Float };
            let theirs = theirs.to_device(mine.device()).to_kind(wide) * mixup_alpha;
            let mixed = mine.to_kind(wide) * (1.0 - mixup_alpha) + theirs;
            mine.copy_(&mixed);
        }
        Ok(())
    }

    /// Reads the parameters back.
    ///
    /// # Errors
    /// [`Error::Engine`] for a file that cannot be read, [`Error::Checkpoint`] for one of another
    /// model.
    pub(crate) fn restore(&self, path: &Path) -> Result<(), Error> {
        let saved = weights::read_file(path)?;
        let find = |name: &str| saved.get(name).map(Tensor::shallow_clone);
        self.model.restore(find).map_err(|name| Error::Checkpoint {
            path: path.to_owned(),
            reason: format!("`{name}` is missing or has another shape"),
        })
    }
}

/// Writes a reference's parameters as they are.
///
/// # Errors
/// [`Error::Engine`] for a file that cannot be written.
pub(crate) fn save(reference: &Decoder, path: &Path) -> Result<(), Error> {
    let parameters = reference.named_parameters().into_iter();
    let all: WeightMap =
        parameters.map(|(name, tensor)| (name, tensor.detach().to_device(Device::Cpu))).collect();
    Ok(weights::write_file(path, &all)?)
}

/// What is wrong with a refresh in a config.
pub(crate) fn sync_problem(
    sync: Option<SyncRefModel>,
    lora: Option<&LoraConfig>,
) -> Option<String> {
    (sync.is_some() && lora.is_some()).then(|| {
        "sync_ref_model is set with learner.lora, wanted one of them: the reference of adapters is \
         the model without them"
            .to_owned()
    })
}

#[cfg(test)]
mod tests;
