//! `joust docs`: reference pages, generated from the code.

use std::path::{Path, PathBuf};

use clap::Args;
use joust_run::config::reference::section;
use joust_run::config::renamed;
use joust_run::config::sft::SftRun;
use joust_run::config::train::TrainRun;
use joust_run::metrics;
use joust_server::metrics::METRICS;

use crate::failure::UserError;
use crate::output;
use crate::score_config::ScoreRun;

/// Arguments of `joust docs`.
#[derive(Args)]
pub(crate) struct DocsArgs {
    /// Folder of the pages.
    #[arg(long, default_value = "docs")]
    dir: PathBuf,
    /// Writes nothing; fails if a page is not current.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: DocsArgs) -> anyhow::Result<()> {
    let pages = [
        ("configuration.md", configuration_page()),
        ("migration.md", renamed::page()),
        ("metrics.md", metrics_page()),
    ];
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

/// The text of docs/configuration.md.
fn configuration_page() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         A config is TOML. Several files merge from left to right; overrides `a.b=c` on the command \
         line come last. A later file or override that changes the `kind` of a section drops the \
         keys of the earlier kind. Unknown keys and values out of range are errors; keys that have \
         a new name are listed in [migration.md](migration.md). `--dry-run` prints the resolved \
         config, and every run folder holds it as `config.toml`. This page is made by \
         `make docs`.\n",
    );
    text += &section::<TrainRun>("joust train");
    text += &section::<ScoreRun>("joust serve, joust score, joust judge");
    text += &section::<SftRun>("joust sft");
    text
}

/// The text of docs/metrics.md.
fn metrics_page() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         One JSON object per step in `outputs/<run>/metrics.jsonl`. Names are TRL's where TRL has \
         the metric. A metric that a step does not have is left out, never 0. This page is generated \
         by `make docs`.\n\n",
    );
    text += &metrics::table();
    text += "\n## Of the server\n\n`GET /metrics` of `joust serve`, in OpenMetrics' format.\n\n\
             | name | meaning |\n|---|---|\n";
    for (name, meaning) in METRICS {
        text += &format!("| `{name}` | {meaning}. |\n");
    }
    text
}
