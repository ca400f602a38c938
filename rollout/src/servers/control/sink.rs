//! The folder with the versions of the policy: each is a model folder that appears whole, and old
//! ones are deleted.
//!
//! It does not know the servers that read them.

use std::path::PathBuf;
use std::sync::Arc;

use joust_engine::device::{DType, DeviceChoice};
use joust_engine::folder::served;
use joust_engine::{Decoder, Tokenizer, folder};
use joust_schema::atomic;
use joust_schema::ids::PolicyVersion;

use crate::config::{ServersConfig, WeightsDType};
use crate::error::Error;
use crate::servers::start_id::StartId;

/// Name of the folder with changed weights that a drill tries the way with.
const DRILL: &str = "drill";

/// Weights in a folder of their own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WeightsFolder {
    /// The folder as this program sees it.
    pub(super) path: PathBuf,
    /// The folder as servers see it.
    pub(super) on_server: PathBuf,
    /// What servers are to call the weights.
    pub(super) label: String,
}

impl WeightsFolder {
    /// The weights as they were written, rounded where the folder's number format rounds; on the
    /// CPU, in f32.
    ///
    /// # Errors
    /// [`Error::Engine`]
    pub(super) fn read(&self) -> Result<Decoder, Error> {
        let device = DeviceChoice::Cpu.resolve()?;
        Ok(folder::open(&self.path)?.decoder(device, DType::F32.resolve(device))?)
    }
}

/// Writes weights to a disk that servers read, too.
pub(super) struct DiskSink {
    dir: PathBuf,
    dir_on_server: PathBuf,
    keep: usize,
    dtype: DType,
    tokenizer: Arc<Tokenizer>,
    /// End of all labels of this folder.
    mark: String,
}

impl DiskSink {
    /// # Errors
    /// [`Error::Config`] without a folder; [`Error::Schema`] where leftovers of an interrupted
    /// program cannot be cleared.
    pub(super) fn new(
        config: &ServersConfig,
        tokenizer: Arc<Tokenizer>,
        start: &StartId,
    ) -> Result<Self, Error> {
        let Some(dir) = config.weights_dir.as_deref() else {
            return Err(Error::Config("servers.weights_dir is not set".to_owned()));
        };
        let io = |source| joust_schema::Error::io(dir, source);
        let dir = std::path::absolute(dir).map_err(io)?;
        let dir_on_server = config.weights_dir_on_server.clone().unwrap_or_else(|| dir.clone());
        if start.publishes {
            atomic::sweep(&dir, |name| name == DRILL || number(name).is_some())?;
        }
        let dtype = match config.weights_dtype {
            WeightsDType::Bf16 => DType::Bf16,
            WeightsDType::F32 => DType::F32,
        };
        let (keep, mark) = (config.keep_weights, format!("-{}", start.id));
        Ok(Self { dir, dir_on_server, keep, dtype, tokenizer, mark })
    }

    /// Writes a version, and opens and checks what was written.
    ///
    /// # Errors
    /// [`Error::Schema`] or [`Error::Engine`] where it cannot be written, or is not whole.
    pub(super) fn write(
        &self,
        policy: &Decoder,
        version: PolicyVersion,
    ) -> Result<WeightsFolder, Error> {
        self.write_as(policy, &name_of(version), &version.to_string())
    }

    /// A version that another process writes.
    pub(super) fn folder_of(&self, version: PolicyVersion) -> WeightsFolder {
        self.folder(&name_of(version), &version.to_string())
    }

    /// Writes weights that are no version.
    ///
    /// # Errors
    /// As [`DiskSink::write`].
    pub(super) fn write_drill(&self, policy: &Decoder) -> Result<WeightsFolder, Error> {
        self.write_as(policy, DRILL, DRILL)
    }

    fn write_as(&self, policy: &Decoder, name: &str, title: &str) -> Result<WeightsFolder, Error> {
        let path = self.dir.join(name);
        atomic::write_dir(&path, |dir| -> Result<(), Error> {
            Ok(served::write(dir, policy, &self.tokenizer, self.dtype)?)
        })?;
        served::check(&path)?;
        Ok(self.folder(name, title))
    }

    fn folder(&self, name: &str, title: &str) -> WeightsFolder {
        let label = format!("{title}{}", self.mark);
        let (path, on_server) = (self.dir.join(name), self.dir_on_server.join(name));
        WeightsFolder { path, on_server, label }
    }

    /// Whether a label was given here, and not by another program or a server's start.
    pub(super) fn is_own(&self, label: &str) -> bool {
        label.ends_with(&self.mark)
    }

    /// Deletes all versions but the newest ones, and the weights of a drill.
    pub(super) fn delete_old(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut versions: Vec<(u64, String)> = Vec::new();
        let mut old: Vec<String> = Vec::new();
        for name in names {
            match number(&name) {
                Some(version) => versions.push((version, name)),
                None if name == DRILL => old.push(name),
                None => {}
            }
        }
        versions.sort();
        let n_old = versions.len().saturating_sub(self.keep.max(1));
        old.extend(versions.into_iter().take(n_old).map(|(_, name)| name));
        for name in old {
            let path = self.dir.join(name);
            if let Err(error) = std::fs::remove_dir_all(&path) {
                let path = path.display().to_string();
                tracing::warn!(path, %error, "Old weights of the policy cannot be deleted.");
            }
        }
    }
}

/// Name of a version's folder.
fn name_of(version: PolicyVersion) -> String {
    format!("v{:06}", version.0)
}

/// The version of a folder's name: `v000012`.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix('v').filter(|digits| digits.len() >= 6)?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests;
