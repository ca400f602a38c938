//! Export of a run's model to a folder of the user's choice.

use joust_engine::{Decoder, Tokenizer, folder};

use crate::config::sft::ExportSection;
use crate::error::Error;

/// Refuses a folder that the model cannot be written to, before the run begins.
pub(crate) fn check(section: &ExportSection) -> Result<(), Error> {
    match &section.path {
        Some(path) => Ok(folder::check_target(path)?),
        None => Ok(()),
    }
}

/// Writes the model if the config names a folder for it.
pub(crate) fn write(
    section: &ExportSection,
    model: &Decoder,
    tokenizer: &Tokenizer,
) -> Result<(), Error> {
    let Some(path) = &section.path else { return Ok(()) };
    check(section)?;
    let kind = section.dtype.resolve(tch::Device::Cpu);
    joust_schema::atomic::write_dir::<Error>(path, |dir| {
        Ok(folder::save(dir, model.config(), &model.to_weights(kind), tokenizer)?)
    })
}
