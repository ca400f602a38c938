//! `joust doctor`: reports this machine and how much of a model fits into it, for the choice of
//! settings and for bug reports.

use std::path::PathBuf;

use clap::Args;
use joust_engine::capacity::CapacityPlan;
use joust_engine::device::{self, DeviceChoice};
use joust_engine::{EngineConfig, folder};
use joust_run::config::train::TrainRun;
use joust_run::memory::{self, DevicePlan, RunPlan};
use joust_trainer::ShardStage;
use serde::Serialize;
use tch::Device;

use crate::commands::{ConfigArgs, EngineArgs};
use crate::failure::UserError;
use crate::output;

/// Arguments that plan a model, which a run's config has keys for.
const PLANS_A_MODEL: [&str; 13] = [
    "model",
    "dtype",
    "quantization",
    "kv_dtype",
    "device",
    "max_batch",
    "max_context",
    "step_tokens",
    "kv_memory_mib",
    "no_gpu_kernels",
    "no_cuda_graphs",
    "no_shared_attention",
    "fetch_ahead_mib",
];

/// Arguments of `joust doctor`.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Model folder (Hugging Face) or GGUF file: plans how its weights, keys and values fit into
    /// the memory of the device. The weights are not read.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Config files and overrides of `joust train`: plans the memory of the whole run. Weights are
    /// not read.
    #[arg(long, num_args = 1.., value_name = "CONFIG.toml|KEY=VALUE")]
    #[arg(conflicts_with_all = PLANS_A_MODEL)]
    train: Vec<String>,
    /// Number of processes of the run that `--train` plans, each with a device of its own.
    #[arg(long, requires = "train", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    ranks: u32,
    #[command(flatten)]
    engine: EngineArgs,
    /// Plans for a GPU with this much free memory, in GiB, instead of the device of this machine.
    #[arg(long)]
    gpu_memory_gib: Option<f64>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct DoctorReport {
    joust: &'static str,
    #[serde(flatten)]
    machine: device::MachineReport,
    omp_wait_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<CapacityPlan>,
    /// How the processes of the run divide the model in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<ShardStage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    run: Vec<DevicePlan>,
}

pub(crate) fn run(args: DoctorArgs) -> anyhow::Result<()> {
    let config = args.engine.config();
    let gpu_memory = args.gpu_memory_gib.map(gpu_bytes).transpose()?;
    if gpu_memory.is_some() && args.model.is_none() && args.train.is_empty() {
        let problem = "--gpu-memory-gib plans a model or a run; add --model or --train";
        return Err(UserError::new(problem.to_owned()).into());
    }
    let plan = args.model.as_ref().map(|model| plan(model, &config, gpu_memory)).transpose()?;
    let run = plan_run(&args.train, gpu_memory, args.ranks as usize)?;
    let doctor = DoctorReport {
        joust: env!("CARGO_PKG_VERSION"),
        machine: device::report(),
        omp_wait_policy: std::env::var("OMP_WAIT_POLICY").ok(),
        plan,
        shard: run.as_ref().map(|run| run.shard),
        run: run.map(|run| run.devices).unwrap_or_default(),
    };
    if args.json {
        output::json(&doctor)?;
    } else {
        let machine = machine_rows(&doctor);
        let planned = doctor.plan.iter().flat_map(plan_rows);
        for (name, value) in machine.into_iter().chain(planned) {
            output::line(format!("{name:<16} {value}"));
        }
        if args.ranks > 1
            && let Some(shard) = doctor.shard
        {
            let shard = serde_json::to_value(shard)?;
            let shard = shard.as_str().unwrap_or_default();
            output::line(format!("one of {} processes, learner.shard = \"{shard}\"", args.ranks));
        }
        for plan in &doctor.run {
            print_run(plan);
        }
    }
    memory::check(&doctor.run)?;
    match &doctor.plan {
        Some(plan) => Ok(plan.check(&config)?),
        None => Ok(()),
    }
}

/// The plan of a training run, if one is asked for.
fn plan_run(
    parts: &[String],
    gpu_memory: Option<usize>,
    n_ranks: usize,
) -> anyhow::Result<Option<RunPlan>> {
    if parts.is_empty() {
        return Ok(None);
    }
    let config = ConfigArgs { parts: parts.to_vec(), dry_run: false };
    Ok(Some(memory::plan(&config.read(TrainRun::problems)?, gpu_memory, n_ranks)?))
}

fn print_run(plan: &DevicePlan) {
    let (needed, all) = (gib(plan.needed_bytes()), gib(plan.memory_bytes));
    let verdict = if plan.fits() { "fits" } else { "does not fit" };
    output::line(format!("memory of the run on {}: {needed} of {all} GiB, {verdict}", plan.device));
    for part in &plan.parts {
        output::line(format!("  {:<26}{:>8} GiB", part.name, gib(part.bytes)));
    }
}

/// Maximum of `--gpu-memory-gib`: more than any GPU has.
const MAX_GPU_GIB: f64 = 100_000.0;

/// Bytes of `--gpu-memory-gib`.
fn gpu_bytes(gib: f64) -> anyhow::Result<usize> {
    if gib > 0.0 && gib <= MAX_GPU_GIB {
        return Ok((gib * f64::from(1 << 30)) as usize);
    }
    let problem = format!("--gpu-memory-gib is {gib}, wanted more than 0, at most {MAX_GPU_GIB}");
    Err(UserError::new(problem).into())
}

fn plan(
    model: &std::path::Path,
    config: &EngineConfig,
    gpu_memory: Option<usize>,
) -> anyhow::Result<CapacityPlan> {
    let model = folder::constants(model)?;
    let (device, memory) = match gpu_memory {
        Some(_) if config.device == DeviceChoice::Cpu => {
            let problem =
                "--gpu-memory-gib plans for a GPU, --device is cpu; leave one of them out";
            return Err(UserError::new(problem.to_owned()).into());
        }
        Some(bytes) => (Device::Cuda(0), bytes),
        None => {
            let device = config.device.resolve().map_err(|error| {
                UserError::new(format!("{error}, or --gpu-memory-gib to plan for one elsewhere"))
            })?;
            (device, device::memory_bytes(device)?)
        }
    };
    Ok(CapacityPlan::new(&model, config, device, memory)?)
}

fn machine_rows(doctor: &DoctorReport) -> Vec<(&'static str, String)> {
    let report = &doctor.machine;
    let cuda = match (report.libtorch_cuda, &report.gpu) {
        (false, _) => "no (libtorch's CUDA library does not load)".to_owned(),
        (true, None) => {
            "no device (libtorch has CUDA, the machine has no GPU or no driver)".to_owned()
        }
        (true, Some(gpu)) => format!(
            "{} device(s), {}, compute capability {}.{}, {} of {} GiB free",
            report.n_cuda_devices,
            gpu.name,
            gpu.compute_capability.0,
            gpu.compute_capability.1,
            gib(gpu.free_bytes),
            gib(gpu.memory_bytes),
        ),
    };
    let dtypes: Vec<String> = report
        .dtypes
        .iter()
        .map(|support| match (support.matmul, support.storage) {
            (true, _) => match support.computed_in {
                Some(other) if other != support.dtype => {
                    format!("{} computed in {other} (no instructions for it)", support.dtype)
                }
                _ => format!("{} yes", support.dtype),
            },
            (false, true) => format!("{} storage only", support.dtype),
            (false, false) => format!("{} no", support.dtype),
        })
        .collect();
    let compiler = match report.cuda_compiler {
        true => "yes (the GPU kernels can be compiled)",
        false => "no (libnvrtc.so.13 does not load: no GPU kernels)",
    };
    let omp = doctor.omp_wait_policy.clone();
    let processor = format!("{} core(s), {}", report.n_processors, report.cpu_features.join(" "));
    let threads = format!(
        "{} within an operation, {} across",
        report.n_intra_op_threads, report.n_inter_op_threads
    );
    vec![
        ("joust", doctor.joust.to_owned()),
        ("libtorch", report.libtorch.clone()),
        ("cuda", cuda),
        ("cuda compiler", compiler.to_owned()),
        ("dtypes on cpu", dtypes.join(", ")),
        ("processor", processor),
        ("threads", threads),
        ("OMP_WAIT_POLICY", omp.unwrap_or_else(|| "unset (PASSIVE is better)".to_owned())),
    ]
}

fn plan_rows(plan: &CapacityPlan) -> Vec<(&'static str, String)> {
    let full = plan.kv_tokens / plan.max_context.max(1);
    vec![
        ("memory", format!("{} GiB", gib(plan.memory_bytes))),
        ("weights", format!("{} GiB", gib(plan.weight_bytes))),
        ("buffers", format!("{} GiB, set aside for a step", gib(plan.buffer_bytes))),
        ("reserve", format!("{} GiB for the device's libraries", gib(plan.reserve_bytes))),
        (
            "keys and values",
            format!(
                "{} tokens at {:.1} KiB each, {} GiB",
                plan.kv_tokens,
                plan.kv_bytes_per_token as f64 / 1_024.0,
                gib(plan.kv_tokens * plan.kv_bytes_per_token)
            ),
        ),
        (
            "sequences",
            format!(
                "{} of {} at once; of full length ({} tokens) {full} fit",
                plan.max_batch.min(plan.kv_tokens / 16),
                plan.max_batch,
                plan.max_context,
            ),
        ),
    ]
}

fn gib(bytes: usize) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 30))
}
