//! Export of a run's model to a folder of the user's choice.

use std::path::Path;

use joust_engine::{Decoder, Tokenizer, folder};

use crate::config::sft::ExportSection;
use crate::error::Error;
use crate::inputs::InputPath;
use crate::observer::{Event, Observer};
use crate::places;

/// The export of one run: where it goes, and what it must not replace.
pub(crate) struct Export<'a> {
    pub(crate) section: &'a ExportSection,
    pub(crate) run_dir: &'a Path,
    pub(crate) inputs: &'a [InputPath],
}

impl Export<'_> {
    /// Refuses a folder that the model cannot or must not be written to, before the run begins.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Some(path) = &self.section.path else { return Ok(()) };
        places::check_export(path, self.run_dir, self.inputs)?;
        Ok(folder::check_target(path)?)
    }

    /// Writes the model if the config names a folder for it.
    pub(crate) fn write(
        &self,
        model: &Decoder,
        tokenizer: &Tokenizer,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        let Some(path) = &self.section.path else { return Ok(()) };
        self.check()?;
        let kind = self.section.dtype.resolve(tch::Device::Cpu);
        joust_schema::atomic::write_dir::<Error>(path, |dir| {
            Ok(folder::save(dir, model.config(), &model.to_weights(kind), tokenizer)?)
        })?;
        observer.observe(Event::ModelExported { path })
    }
}
