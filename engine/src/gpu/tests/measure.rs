//! Measurements of `joust bench gpu`, for kernels that are right, wrong or failing.

use super::HEADS;
use crate::config::examples::tiny_with_head;
use crate::error::Error;
use crate::ffi::cuda::kernel::{KernelArg, LaunchShape};
use crate::gpu::arena::KvKind;
use crate::gpu::emulator::{self, EmulatorLauncher};
use crate::gpu::kernel_ops::KernelOps;
use crate::gpu::launch::Launch;
use crate::gpu::measure::{MeasureSizes, measure_on_cpu};

#[test]
fn measure_finds_wrong_and_failing_kernels() {
    for kv in [KvKind::Bf16, KvKind::Fp8] {
        check(kv, &emulator::kernels(HEADS, kv, kv == KvKind::Fp8));
    }
}

/// Measures kernels that are right, then with one kernel skipped, then with one kernel failing.
fn check(kv: KvKind, kernels: &KernelOps<EmulatorLauncher>) {
    let sizes = MeasureSizes { rows: vec![1, 3], context: 40, kv_fp8: kv == KvKind::Fp8, reps: 1 };
    let measured = measure_on_cpu(&tiny_with_head(), kernels, &sizes);
    let wrong: Vec<_> = measured.iter().filter(|part| !part.is_good()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let compared = measured.iter().filter(|part| part.is_right.is_some());
    // one part exists only for more than one row
    assert_eq!((measured.len(), compared.count()), (2 * 27 + 1, 2 * 21 + 1));
    assert!(measured.iter().all(|part| part.us > 0.0));
    let skipping = KernelOps {
        launcher: SkippingLauncher(kernels.launcher.clone()),
        heads: HEADS,
        fetch_ahead: 0,
    };
    let skipped = measure_on_cpu(&tiny_with_head(), &skipping, &sizes);
    let wrong = skipped.iter().filter(|part| part.is_right == Some(false));
    assert!(wrong.map(|part| &part.part[..]).eq(["silu_mul to bf16", "silu_mul to fp8"].repeat(2)));
    // a failing kernel affects its own parts only
    let launcher = FailingLauncher(kernels.launcher.clone());
    let failing = KernelOps { launcher, heads: HEADS, fetch_ahead: 0 };
    let failed = measure_on_cpu(&tiny_with_head(), &failing, &sizes);
    let bad = failed.iter().filter(|part| !part.is_good());
    assert!(bad.map(|part| &part.part[..]).eq(["sampling", "sampling"]));
    assert_eq!(failed.len(), measured.len() - 2 * 2 + 2);
}

/// A launcher that fails at one kernel.
struct FailingLauncher(EmulatorLauncher);

impl Launch for FailingLauncher {
    fn launch(&self, kernel: &str, shape: LaunchShape, args: &[KernelArg]) -> Result<(), Error> {
        match kernel {
            "sample" => Err(Error::Device("out of order".to_owned())),
            _ => self.0.launch(kernel, shape, args),
        }
    }
}

/// A launcher that skips one kernel.
struct SkippingLauncher(EmulatorLauncher);

impl Launch for SkippingLauncher {
    fn launch(&self, kernel: &str, shape: LaunchShape, args: &[KernelArg]) -> Result<(), Error> {
        match kernel.starts_with("silu_mul") {
            true => Ok(()),
            false => self.0.launch(kernel, shape, args),
        }
    }
}
