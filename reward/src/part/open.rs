//! From the config of parts to open parts: programs that run, patterns that are read.

use super::command::CommandPart;
use super::correct::KnownAnswerRule;
use super::format::FormatRule;
use super::http::HttpPart;
use super::source::PartSource;
use crate::config::part::{JudgePartConfig, JudgeValue, JudgeWhen, PartOf, RewardPart};
use crate::config::{RewardConfig, RewardKind};
use crate::error::Error;

/// An open part.
pub(super) struct OpenPart {
    pub(super) name: String,
    pub(super) weight: f64,
    pub(super) is_optional: bool,
    pub(super) of: OpenKind,
}

/// Who gives the numbers of a part.
pub(super) enum OpenKind {
    /// The judge, who is asked for these groups.
    Judge(JudgeWhen),
    Source(Box<dyn PartSource>),
}

impl OpenPart {
    /// The groups that the judge is asked for, if the part is the judge's.
    pub(super) fn when_judged(&self) -> Option<JudgeWhen> {
        match self.of {
            OpenKind::Judge(when) => Some(when),
            OpenKind::Source(_) => None,
        }
    }
}

/// Opens all parts; the judge itself is opened by its config ([`judge_of`]).
///
/// # Errors
/// [`Error::Config`], naming the part.
pub(super) fn open_parts(config: &RewardConfig) -> Result<Vec<OpenPart>, Error> {
    config.parts.iter().map(|part| open_part(part, config.max_failed)).collect()
}

fn open_part(part: &RewardPart, max_failed: f64) -> Result<OpenPart, Error> {
    let name = part.name();
    let source: Box<dyn PartSource> = match &part.of {
        PartOf::Judge(judge) => return Ok(opened(part, OpenKind::Judge(judge.when))),
        PartOf::Correct => Box::new(KnownAnswerRule),
        PartOf::Length(length) => Box::new(length.clone()),
        PartOf::Format(format) => {
            let rule = FormatRule::new(&format.pattern);
            Box::new(rule.map_err(|error| Error::Config(format!("part `{name}`: {error}")))?)
        }
        PartOf::Command(command) => Box::new(CommandPart::open(name, command, max_failed)?),
        PartOf::Http(http) => Box::new(HttpPart::open(name, http)?),
    };
    Ok(opened(part, OpenKind::Source(source)))
}

fn opened(part: &RewardPart, of: OpenKind) -> OpenPart {
    let name = part.name().to_owned();
    OpenPart { name, weight: part.weight, is_optional: part.optional, of }
}

/// The config of the judge alone, as a reward of one part; none where no part is a judge's.
pub(super) fn judge_of(config: &RewardConfig) -> Option<RewardConfig> {
    let judge = |part: &RewardPart| match &part.of {
        PartOf::Judge(judge) => Some(judge.clone()),
        _ => None,
    };
    let JudgePartConfig { value, .. } = config.parts.iter().find_map(judge)?;
    let kind = match value {
        JudgeValue::WinRate => RewardKind::WinRate,
        JudgeValue::Rating => RewardKind::Rating,
    };
    Some(config.of_kind(kind))
}
