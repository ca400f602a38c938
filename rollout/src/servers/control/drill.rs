//! The drill at the start of a run: weights are given, changed and given back, and each time the
//! numbers of all servers are compared with the trainer's, before a token is trained on.
//!
//! It does not know how weights reach a server.

use futures_util::future::join_all;
use joust_engine::folder::served::{self, ChangedHead};
use joust_engine::{Decoder, forced};
use joust_schema::ids::PolicyVersion;
use joust_schema::seed::Seed;

use super::fault::ServerFault;
use super::read::SampledText;
use super::sink::WeightsFolder;
use super::state::HeldVersion;
use super::witness::{Allowance, Held, SAMPLED_TOKENS, Seen, difference, held};
use super::{NewestWeights, PolicyServers};
use crate::error::Error;

/// Change of each tensor in the drill, in its deviations: far above what rounding to bf16 does.
const CHANGE: f64 = 0.2;

/// Difference that a rounding at the border of top-p or top-k may make, per token. Prefixes of
/// other weights differ by more than 1.
const BORDER_NOISE: f64 = 0.02;

/// A server's numbers after a change of weights.
struct Answers {
    text_logprobs: Vec<f32>,
    sampled: SampledText,
}

/// Weights of the drill: a model, its numbers of the fixed text, and its folder.
struct DrillSide<'a> {
    model: &'a Decoder,
    text_logprobs: Vec<f32>,
    weights: WeightsFolder,
}

impl PolicyServers {
    /// Gives all servers a version, a changed copy, and the version again. They hold it then.
    ///
    /// # Errors
    /// [`ServerFault`] of the first server whose numbers are not the trainer's.
    pub(super) fn drill(&mut self, policy: &Decoder, version: PolicyVersion) -> Result<(), Error> {
        let own = DrillSide {
            model: policy,
            text_logprobs: self.text_logprobs(policy)?,
            weights: self.sink.write(policy, version)?,
        };
        for (idx, answers) in self.give_side(&own, version)?.into_iter().enumerate() {
            self.check_first(idx, &own, version, &answers)?;
        }
        let changed = served::changed(policy, Seed::new(1), CHANGE, ChangedHead::Changed)?;
        let (weights, exact) = (self.sink.write_drill(&changed)?, self.text_logprobs(&changed)?);
        drop(changed);
        // a policy may be exact in bf16, and its changed copy is not
        let model = weights.read()?;
        let text_logprobs = self.text_logprobs(&model)?;
        let other = DrillSide { model: &model, text_logprobs, weights };
        for (idx, answers) in self.give_side(&other, version)?.into_iter().enumerate() {
            self.check_change(idx, &other, &own, &answers, Some(&exact))?;
            let noise = difference(&answers.text_logprobs, &exact);
            self.servers[idx].noise = self.servers[idx].noise.max(noise);
        }
        for (idx, answers) in self.give_side(&own, version)?.into_iter().enumerate() {
            self.check_change(idx, &own, &other, &answers, None)?;
            let server = &mut self.servers[idx];
            server.held = HeldVersion::Newest;
            server.since = Some(Seen {
                version: version.0,
                server: answers.text_logprobs,
                trainer: own.text_logprobs.clone(),
            });
            let (url, noise) = (server.endpoint.url(), server.noise);
            tracing::info!(url, noise, "A policy server takes weights and computes with them.");
        }
        self.sink.delete_old();
        Ok(())
    }

    /// Gives weights to all servers, and asks for their numbers: each must answer.
    fn give_side(
        &mut self,
        side: &DrillSide<'_>,
        version: PolicyVersion,
    ) -> Result<Vec<Answers>, Error> {
        let text_logprobs = side.text_logprobs.clone();
        self.set_newest(NewestWeights { weights: side.weights.clone(), version, text_logprobs });
        self.update_all()?;
        for server in &self.servers {
            if let Some(reason) = server.held.reason() {
                return Err(ServerFault::NotUpdated { reason: reason.to_owned() }.into());
            }
        }
        let (texts, params) = (&self.texts, &self.params);
        let answers = join_all(self.servers.iter().map(|server| async move {
            let text_logprobs = server.endpoint.text_logprobs(&texts.text).await?;
            // it is cached from now on
            let sampled = server.endpoint.sample(&texts.prompt, SAMPLED_TOKENS, params).await?;
            Ok::<_, joust_fleet::RequestError>(Answers { text_logprobs, sampled })
        }));
        let answers = self.runtime.block_on(answers).into_iter();
        let answers = answers.map(|answers| {
            answers.map_err(|error| ServerFault::BadAnswer(error.to_string()).into())
        });
        answers.collect()
    }

    /// Compares the numbers after the first weights: nothing is known of what came before.
    fn check_first(
        &mut self,
        idx: usize,
        side: &DrillSide<'_>,
        version: PolicyVersion,
        answers: &Answers,
    ) -> Result<(), Error> {
        let seen = difference(&answers.text_logprobs, &side.text_logprobs);
        let server = self.url(idx);
        if seen > self.max_difference {
            let (version, allowed) = (version.0, self.max_difference);
            return Err(ServerFault::Difference { server, version, seen, allowed }.into());
        }
        self.servers[idx].noise = seen;
        let allowed = self.allowance(idx).after_change();
        match self.of_sampled(side.model, &answers.sampled, allowed)? {
            Sampled::Right => Ok(()),
            Sampled::Untempered => Err(ServerFault::UntemperedLogprobs { server }.into()),
            Sampled::Other(seen) => {
                Err(ServerFault::Difference { server, version: version.0, seen, allowed }.into())
            }
        }
    }

    /// Compares the numbers after weights that replace those of `before`. `exact` are numbers of
    /// changed weights before they were rounded.
    fn check_change(
        &self,
        idx: usize,
        now: &DrillSide<'_>,
        before: &DrillSide<'_>,
        answers: &Answers,
        exact: Option<&[f32]>,
    ) -> Result<(), Error> {
        let (server, folder) = (self.url(idx), now.weights.on_server.clone());
        let (seen, allowance) = (&answers.text_logprobs, self.allowance(idx));
        match held(seen, &now.text_logprobs, &before.text_logprobs, allowance) {
            Held::New => {}
            Held::Old { seen, before } => {
                return Err(ServerFault::OldWeights { server, folder, seen, before }.into());
            }
            Held::Neither { seen: found, before: to_old, allowed } => {
                if let Some(exact) = exact
                    && self.is_of_old_head(seen, before.model, now, exact, allowed)?
                {
                    // the policy itself, with a head of its own
                    let folder = before.weights.on_server.clone();
                    return Err(ServerFault::OldHead { server, folder }.into());
                }
                let (seen, before) = (found, to_old);
                let fault = ServerFault::PartialWeights { server, folder, seen, before, allowed };
                return Err(fault.into());
            }
        }
        let allowed = allowance.after_change();
        match self.of_sampled(now.model, &answers.sampled, allowed)? {
            Sampled::Right => Ok(()),
            Sampled::Untempered => Err(ServerFault::UntemperedLogprobs { server }.into()),
            Sampled::Other(seen) => Err(ServerFault::StalePrefixes { server, seen }.into()),
        }
    }

    /// Whether a server's numbers are those of the changed weights with the head of the policy.
    fn is_of_old_head(
        &self,
        seen: &[f32],
        policy: &Decoder,
        changed: &DrillSide<'_>,
        exact: &[f32],
        allowed: f64,
    ) -> Result<bool, Error> {
        let model = served::changed(policy, Seed::new(1), CHANGE, ChangedHead::Old)?;
        let rounding = difference(exact, &changed.text_logprobs);
        let found = difference(seen, &self.text_logprobs(&model)?);
        Ok(found <= allowed.max(2.0 * rounding).min(self.max_difference))
    }

    /// Compares the log-probabilities of sampled tokens with a model's.
    fn of_sampled(
        &self,
        model: &Decoder,
        sampled: &SampledText,
        allowed: f64,
    ) -> Result<Sampled, Error> {
        let SampledText { token_ids, logprobs } = sampled;
        let params = &self.params;
        let keeps_all = params.top_p >= 1.0 && params.top_k == 0;
        // a temperature multiplies differences of logits
        let allowed = allowed / params.temperature.min(1.0);
        let allowed = if keeps_all { allowed } else { allowed.max(BORDER_NOISE) };
        let drawn = forced::drawn_logprobs(model, &self.texts.prompt, token_ids, params)?;
        let to_drawn = difference(logprobs, &drawn);
        if to_drawn <= allowed {
            return Ok(Sampled::Right);
        }
        let plain = forced::logprobs(model, &self.texts.prompt, token_ids)?;
        match difference(logprobs, &plain) <= allowed {
            true => Ok(Sampled::Untempered),
            false => Ok(Sampled::Other(to_drawn)),
        }
    }

    fn allowance(&self, idx: usize) -> Allowance {
        Allowance { max: self.max_difference, noise: self.servers[idx].noise }
    }

    fn url(&self, idx: usize) -> String {
        self.servers[idx].endpoint.url().to_owned()
    }
}

/// Whose log-probabilities of sampled tokens are.
enum Sampled {
    /// Of the distribution that they were drawn from.
    Right,
    /// Of the untempered distribution.
    Untempered,
    /// Neither; with the difference per token.
    Other(f64),
}
