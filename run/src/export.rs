//! The model that a run leaves beside its folder.

use joust_engine::{Decoder, Tokenizer, folder};

use crate::config::sft::ExportSection;
use crate::error::Error;

/// Refuses a place that the model could not be written to, before there is one.
pub(crate) fn check(section: &ExportSection) -> Result<(), Error> {
    match &section.path {
        Some(path) => Ok(folder::check_target(path)?),
        None => Ok(()),
    }
}

/// Writes the model where one is asked for.
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
