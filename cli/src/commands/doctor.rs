//! `joust doctor`: what this machine has, for choosing settings and for bug reports.

use clap::Args;
use serde::Serialize;

use crate::output;

/// Arguments of `joust doctor`.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Doctor {
    joust: &'static str,
    #[serde(flatten)]
    report: joust_engine::device::Report,
    omp_wait_policy: Option<String>,
}

pub(crate) fn run(args: DoctorArgs) -> anyhow::Result<()> {
    let doctor = Doctor {
        joust: env!("CARGO_PKG_VERSION"),
        report: joust_engine::device::report(),
        omp_wait_policy: std::env::var("OMP_WAIT_POLICY").ok(),
    };
    if args.json {
        return output::json(&doctor);
    }
    let report = &doctor.report;
    let cuda = match (report.libtorch_cuda, report.n_cuda_devices) {
        (false, _) => "no (libtorch's CUDA library does not load)".to_owned(),
        (true, 0) => {
            "no device (libtorch has CUDA, the machine has no GPU or no driver)".to_owned()
        }
        (true, n_devices) => format!("{n_devices} device(s)"),
    };
    let dtypes: Vec<String> = report
        .dtypes
        .iter()
        .map(|support| match (support.matmul, support.storage) {
            (true, _) => format!("{} yes", support.dtype),
            (false, true) => format!("{} storage only", support.dtype),
            (false, false) => format!("{} no", support.dtype),
        })
        .collect();
    let rows = [
        ("joust", doctor.joust.to_owned()),
        ("libtorch", report.libtorch.clone()),
        ("cuda", cuda),
        ("dtypes on cpu", dtypes.join(", ")),
        (
            "processor",
            format!("{} core(s), {}", report.n_processors, report.cpu_features.join(" ")),
        ),
        (
            "threads",
            format!(
                "{} within an operation, {} across",
                report.n_intra_op_threads, report.n_inter_op_threads
            ),
        ),
        (
            "OMP_WAIT_POLICY",
            doctor
                .omp_wait_policy
                .clone()
                .unwrap_or_else(|| "unset (PASSIVE is better)".to_owned()),
        ),
    ];
    for (name, value) in rows {
        output::line(format!("{name:<16} {value}"));
    }
    Ok(())
}
