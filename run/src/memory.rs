//! Memory plan of a training run, by device: what training, sampling and judging need together.
//! Weights are not read.

use std::collections::BTreeMap;

use joust_dist::Collectives;
use joust_engine::capacity::{CapacityPlan, packed_bytes, reserve_bytes, weight_bytes};
use joust_engine::config::ModelConfig;
use joust_engine::device::{self, DeviceChoice};
use joust_engine::{EngineConfig, folder};
use joust_reward::JudgeKind;
use joust_trainer::{LearnerConfig, ShardStage, TrainedModel, TrainingMemory};
use serde::Serialize;
use tch::Device;

use crate::config::train::TrainRun;
use crate::error::Error;

/// What a run needs of one device.
#[derive(Clone, Debug, Serialize)]
pub struct DevicePlan {
    /// `cpu` or `cuda`.
    pub device: &'static str,
    /// Bytes of the device's memory.
    pub memory_bytes: usize,
    /// Bytes needed, by what they hold.
    pub parts: Vec<PlanPart>,
}

/// What a part of a device's memory holds.
#[derive(Clone, Debug, Serialize)]
pub struct PlanPart {
    /// Name of the content.
    pub name: &'static str,
    /// Number of bytes.
    pub bytes: usize,
}

impl DevicePlan {
    /// Bytes needed.
    pub fn needed_bytes(&self) -> usize {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }

    /// Whether the run fits.
    pub fn fits(&self) -> bool {
        self.needed_bytes() <= self.memory_bytes
    }
}

/// The memory plan of one of the processes of a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunPlan {
    /// How the processes divide the model in training.
    pub shard: ShardStage,
    /// What one of them needs.
    pub devices: Vec<DevicePlan>,
}

/// Plans a run of `n_ranks` processes, whose models are opened for their constants alone. With
/// `gpu_memory`, devices are planned as on a machine with a GPU of so many free bytes.
///
/// # Errors
/// [`Error::Engine`] for models and devices that cannot be used.
pub fn plan(
    config: &TrainRun,
    gpu_memory: Option<usize>,
    n_ranks: usize,
) -> Result<RunPlan, Error> {
    plan_with(config, &folder::constants(&config.policy.path)?, gpu_memory, n_ranks)
}

/// As [`plan`], with the constants of a policy that is open already: of the stage of
/// `trainer.learner.shard`, or of the first one that fits, or of the one that needs least.
fn plan_with(
    config: &TrainRun,
    policy: &ModelConfig,
    gpu_memory: Option<usize>,
    n_ranks: usize,
) -> Result<RunPlan, Error> {
    let planned = |shard| {
        let devices = plan_stage(config, policy, gpu_memory, (n_ranks, shard))?;
        Ok::<_, Error>(RunPlan { shard, devices })
    };
    let shard = config.trainer.learner.shard;
    if shard != ShardStage::Auto {
        return planned(shard);
    }
    let stages = config.trainer.learner.possible_shards(n_ranks).into_iter();
    let mut plans = stages.map(planned).collect::<Result<Vec<_>, Error>>()?;
    let needed = |plan: &RunPlan| plan.devices.iter().map(DevicePlan::needed_bytes).sum::<usize>();
    let fits = |plan: &RunPlan| plan.devices.iter().all(DevicePlan::fits);
    let chosen = plans.iter().position(fits);
    // a copy for sampling may make the last stage need more than the one before
    let least = || (0..plans.len()).min_by_key(|&place| needed(&plans[place]));
    let chosen = chosen.or_else(least).unwrap_or(0);
    Ok(plans.swap_remove(chosen))
}

/// How the ranks of a run divide the model in training, which they decide together.
///
/// # Errors
/// As [`plan`]; [`Error::Input`] for a run that needs more memory than a device has.
pub(crate) fn shard(
    config: &TrainRun,
    policy: &ModelConfig,
    ranks: &Collectives,
) -> Result<ShardStage, Error> {
    let plan = plan_with(config, policy, None, ranks.world().size)?;
    check(&plan.devices)?;
    agreed(plan.shard, ranks)
}

/// As [`shard`], for a run that does not sample: what is trained, with any stage.
///
/// # Errors
/// As [`plan`].
pub(crate) fn shard_of(
    trained: TrainedModel<'_>,
    learner: &LearnerConfig,
    device: Device,
    ranks: &Collectives,
) -> Result<ShardStage, Error> {
    if learner.shard != ShardStage::Auto {
        return Ok(learner.shard);
    }
    let memory = device::memory_bytes(device)?;
    let mut stages = learner.possible_shards(trained.n_ranks);
    let needed =
        |shard| TrainingMemory::plan(TrainedModel { shard, ..trained }, learner).needed_bytes();
    let last = stages.pop().unwrap_or_default();
    agreed(stages.into_iter().find(|stage| needed(*stage) <= memory).unwrap_or(last), ranks)
}

/// The last of the stages that the ranks have chosen.
fn agreed(chosen: ShardStage, ranks: &Collectives) -> Result<ShardStage, Error> {
    let stages = ShardStage::STAGES;
    let place = stages.iter().position(|stage| *stage == chosen).unwrap_or(0);
    let mut largest = [place as f64];
    ranks.max_f64(&mut largest).map_err(joust_trainer::Error::from)?;
    Ok(stages[largest[0] as usize])
}

/// What one of several processes needs that divide the model in this way.
fn plan_stage(
    config: &TrainRun,
    policy: &ModelConfig,
    gpu_memory: Option<usize>,
    (n_ranks, shard): (usize, ShardStage),
) -> Result<Vec<DevicePlan>, Error> {
    let mut planner = Planner { gpu_memory, n_ranks, shard, parts: BTreeMap::new() };
    let device = planner.device(config.policy.device)?;
    planner.add_training(config, device, policy);
    planner.add_sampling(config, device, policy)?;
    if config.reward.plays_matches()
        && let JudgeKind::Engine(judge) = &config.reward.judge.kind
    {
        let device = planner.device(judge.engine.device)?;
        let model = folder::constants(&judge.model)?;
        let engine = planner.engine(&judge.engine, device, &model)?;
        let packed = planner.packed(&judge.engine, device, &model)?;
        let weights = engine.fixed_bytes() - engine.reserve_bytes + packed;
        planner.add(device, "judge: weights", weights);
        planner.add(device, "judge: keys and values", kv_bytes(&engine));
    }
    planner.finish()
}

/// Refuses a run that needs more memory than a device has.
///
/// # Errors
/// [`Error::Input`] with the parts and with settings that need less.
pub fn check(plans: &[DevicePlan]) -> Result<(), Error> {
    let Some(plan) = plans.iter().find(|plan| !plan.fits()) else { return Ok(()) };
    let mut parts = plan.parts.clone();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    let parts: Vec<String> =
        parts.iter().map(|part| format!("{} {}", part.name, gib(part.bytes))).collect();
    Err(Error::input(format!(
        "config: the run needs {} GiB of {}'s {} GiB ({}); less memory need smaller kv_memory_mib \
         or max_context of rollout.engine and reward.judge.engine, \
         trainer.learner.checkpoint_activations = true, a smaller \
         trainer.learner.micro_batch_tokens, and trainer.learner.lora",
        gib(plan.needed_bytes()),
        plan.device,
        gib(plan.memory_bytes),
        parts.join(", ")
    )))
}

fn gib(bytes: usize) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 30))
}

fn kv_bytes(engine: &CapacityPlan) -> usize {
    engine.kv_tokens.saturating_mul(engine.kv_bytes_per_token)
}

/// Parts by device: whether it is a GPU, and what it holds.
struct Planner {
    gpu_memory: Option<usize>,
    /// Number of processes of the run, each with a device of its own.
    n_ranks: usize,
    shard: ShardStage,
    parts: BTreeMap<bool, Vec<PlanPart>>,
}

impl Planner {
    fn device(&self, choice: DeviceChoice) -> Result<Device, Error> {
        match (self.gpu_memory, choice) {
            (Some(_), DeviceChoice::Auto | DeviceChoice::Cuda) => Ok(Device::Cuda(0)),
            _ => Ok(choice.resolve()?),
        }
    }

    fn memory(&self, device: Device) -> Result<usize, Error> {
        match self.gpu_memory.filter(|_| device.is_cuda()) {
            Some(bytes) => Ok(bytes),
            None => Ok(device::memory_bytes(device)?),
        }
    }

    fn engine(
        &self,
        engine: &EngineConfig,
        device: Device,
        model: &ModelConfig,
    ) -> Result<CapacityPlan, Error> {
        Ok(CapacityPlan::new(model, engine, device, self.memory(device)?)?)
    }

    fn packed(
        &self,
        engine: &EngineConfig,
        device: Device,
        model: &ModelConfig,
    ) -> Result<usize, Error> {
        let is_fp8 = model.fp8.is_some();
        let precision = engine.quantization.resolve(device, engine.dtype, is_fp8)?;
        Ok(packed_bytes(model, device, precision))
    }

    fn add(&mut self, device: Device, name: &'static str, bytes: usize) {
        if bytes > 0 {
            self.parts.entry(device.is_cuda()).or_default().push(PlanPart { name, bytes });
        }
    }

    fn add_training(&mut self, config: &TrainRun, device: Device, model: &ModelConfig) {
        let learner = &config.trainer.learner;
        let trained = TrainedModel {
            model,
            formats: learner.number_formats(device),
            has_reference: config.trainer.has_reference(),
            n_ranks: self.n_ranks,
            shard: self.shard,
            n_sequences: config.train.prompts_per_step.div_ceil(self.n_ranks)
                * config.rollout.group_size as usize,
            longest: config.rollout.engine.max_context_of(model),
        };
        let memory = TrainingMemory::plan(trained, learner);
        let parts = [
            ("policy: weights", memory.weight_bytes),
            ("policy: gradients", memory.gradient_bytes),
            ("policy: AdamW", memory.optimizer_bytes),
            ("policy: buffers", memory.buffer_bytes),
            ("reference: weights", memory.reference_bytes),
            ("training: activations", memory.activation_bytes),
            ("training: a layer", memory.layer_bytes),
            ("training: logits", memory.logits_bytes),
        ];
        for (name, bytes) in parts {
            self.add(device, name, bytes);
        }
    }

    fn add_sampling(
        &mut self,
        config: &TrainRun,
        device: Device,
        model: &ModelConfig,
    ) -> Result<(), Error> {
        let settings = &config.rollout.engine;
        let learner = &config.trainer.learner;
        let is_whole = self.shard < ShardStage::Zero3 || self.n_ranks == 1;
        if config.rollout.kind.is_servers() {
            // servers have keys and values; the weights that they are given are whole
            let working = learner.number_formats(device).working.into();
            let copy = if is_whole { 0 } else { weight_bytes(model, working) };
            self.add(device, "weights for servers", copy);
            self.add(device, "libraries", reserve_bytes(device));
            return Ok(());
        }
        let precision = settings.quantization.resolve(device, settings.dtype, false)?;
        let working = learner.number_formats(device).working.into();
        let shares =
            is_whole && precision == working && !(device.is_cuda() && learner.lora.is_some());
        let weights = weight_bytes(model, precision);
        // one copy of weights in parts serves all workers
        let in_parts = if is_whole { 0 } else { weights };
        // sampling ahead reads weights that the trainer does not change
        let is_ahead = config.train.ahead > 0;
        let own = if is_ahead || (is_whole && !shares) { weights } else { 0 };
        let n_waiting = if config.train.ahead > 1 { config.train.ahead as usize } else { 0 };
        let waiting = n_waiting * weight_bytes(model, if is_whole { working } else { precision });
        self.add(device, "sampling: policies that wait", waiting);
        let engine = self.engine(settings, device, model)?;
        let n_workers = config.rollout.workers;
        let copy = own + packed_bytes(model, device, precision) + engine.buffer_bytes;
        self.add(device, "sampling: weights", in_parts + n_workers.saturating_mul(copy));
        let keys_and_values = n_workers.saturating_mul(kv_bytes(&engine));
        self.add(device, "sampling: keys and values", keys_and_values);
        self.add(device, "libraries", engine.reserve_bytes);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<DevicePlan>, Error> {
        let parts = std::mem::take(&mut self.parts);
        let plan = |(is_gpu, parts): (bool, Vec<PlanPart>)| {
            let device = if is_gpu { Device::Cuda(0) } else { Device::Cpu };
            let name = if is_gpu { "cuda" } else { "cpu" };
            Ok(DevicePlan { device: name, memory_bytes: self.memory(device)?, parts })
        };
        parts.into_iter().map(plan).collect()
    }
}
