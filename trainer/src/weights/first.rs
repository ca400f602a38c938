//! The model that training begins with: in memory, or in files that are read bucket by bucket.

use std::rc::Rc;

use joust_engine::Decoder;
use joust_engine::config::ModelConfig;
use joust_engine::folder::ModelFiles;
use joust_engine::model::{Bucket, TakeBucket};
use tch::{Device, Kind};

use crate::error::Error;

/// The model that training begins with.
pub enum FirstWeights {
    /// A model with its master weights, or with adapters.
    Loaded(Box<Decoder>),
    /// A model in files.
    Unread(UnreadModel),
}

/// A model in files, which are read when the trainer is made, bucket by bucket: a rank never has
/// more master weights than its part and one bucket.
pub struct UnreadModel {
    files: Rc<ModelFiles>,
    device: Device,
    end_tokens: Vec<u32>,
}

impl From<Decoder> for FirstWeights {
    fn from(model: Decoder) -> Self {
        Self::Loaded(Box::new(model))
    }
}

impl FirstWeights {
    /// A model in files, which is trained on `device`.
    ///
    /// # Errors
    /// [`Error::Engine`] for files that lack tensors of the model.
    pub fn of_files(files: Rc<ModelFiles>, device: Device) -> Result<Self, Error> {
        files.inspect()?;
        Ok(Self::Unread(UnreadModel { files, device, end_tokens: Vec::new() }))
    }

    /// Adds a token that ends a text to the model's configuration.
    pub fn add_end_token(&mut self, id: u32) {
        match self {
            Self::Loaded(model) => model.add_end_token(id),
            Self::Unread(model) => model.end_tokens.push(id),
        }
    }

    /// Reads the whole model, in `kind` where it is not loaded.
    ///
    /// # Errors
    /// [`Error::Engine`] for files that cannot be read.
    pub(super) fn read(self, kind: Kind) -> Result<Decoder, Error> {
        match self {
            Self::Loaded(model) => Ok(*model),
            Self::Unread(model) => Ok(model.files.decoder(model.device, kind)?),
        }
    }

    /// The model's constants.
    pub fn config(&self) -> &ModelConfig {
        match self {
            Self::Loaded(model) => model.config(),
            Self::Unread(model) => &model.files.config,
        }
    }

    /// The device to train on.
    pub fn device(&self) -> Device {
        match self {
            Self::Loaded(model) => model.device(),
            Self::Unread(model) => model.device,
        }
    }

    /// Number format of the master weights.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Loaded(model) => model.kind(),
            Self::Unread(_) => Kind::Float,
        }
    }

    /// Gives the trained parameters to `take`, bucket by bucket, in `kind` where they are read.
    /// Returns the model without them.
    pub(super) fn drain(
        self,
        kind: Kind,
        multiple: usize,
        take: &mut TakeBucket<'_>,
    ) -> Result<(Decoder, Vec<Bucket>), Error> {
        match self {
            Self::Loaded(model) => {
                let buckets = model.drain_buckets(multiple, take)?;
                Ok((*model, buckets))
            }
            Self::Unread(UnreadModel { files, device, end_tokens }) => {
                let (mut model, buckets) = files.drain_buckets(device, kind, multiple, take)?;
                end_tokens.into_iter().for_each(|id| model.add_end_token(id));
                Ok((model, buckets))
            }
        }
    }
}
