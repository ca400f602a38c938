//! `joust docs`: the reference pages that are made from the code.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::reference;
use crate::failure::UserError;
use crate::{metrics, output};

/// Arguments of `joust docs`.
#[derive(Args)]
pub(crate) struct DocsArgs {
    /// Folder of the pages.
    #[arg(long, default_value = "docs")]
    dir: PathBuf,
    /// Writes nothing and fails where a page is not current.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: DocsArgs) -> anyhow::Result<()> {
    let pages = [("configuration.md", reference::page()), ("metrics.md", metrics::page())];
    for (name, text) in pages {
        let path = args.dir.join(name);
        match args.check {
            true => check(&path, &text)?,
            false => write(&path, &text)?,
        }
    }
    Ok(())
}

fn check(path: &Path, text: &str) -> anyhow::Result<()> {
    let seen = std::fs::read_to_string(path).unwrap_or_default();
    if seen != text {
        let text = format!("{} is not current; run `make docs`", path.display());
        return Err(UserError::new(text).into());
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    joust_schema::atomic::write_file(path, |file| {
        file.write_all(text.as_bytes()).map_err(|source| joust_schema::Error::io(path, source))
    })?;
    output::line(format!("Wrote {}.", path.display()));
    Ok(())
}
