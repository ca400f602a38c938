//! Kernels with one thread block per row: norm, activation and quantisation.

use super::{HEADS, RandomTensors, bf16, check_close, outs, plain};
use crate::gpu::arena::KvKind;
use crate::gpu::emulator;
use crate::gpu::ops::Ops;
use crate::gpu::reference::ReferenceOps;
use crate::model::Linear;

/// One comparison: operations, reference, draws, rows and width, and a matrix to prefetch.
type Check = fn(&dyn Ops, &dyn Ops, &RandomTensors, [i64; 2], Option<&Linear>);

/// Runs a comparison for numbers of rows and widths from none to several turns of a thread block,
/// with threads in both orders.
fn at_all_sizes(seed: u64, check: Check) {
    let draw = RandomTensors::new(seed);
    let reference = ReferenceOps { heads: HEADS };
    for backwards in [false, true] {
        let kernels = emulator::kernels(HEADS, KvKind::Bf16, backwards);
        for (n, width) in [(0, 64), (1, 64), (3, 8), (5, 96), (2, 5_120), (65, 64)] {
            let next = (width > 8).then(|| plain(&draw.randn(&[48, width])));
            check(&kernels, &reference, &draw, [n, width], next.as_ref());
        }
    }
}

#[test]
fn rmsnorm_residual_is_the_reference() {
    at_all_sizes(11, |kernels, reference, draw, [n, width], next| {
        let (x, added) = (draw.randn(&[n, width]), bf16(&draw.randn(&[n, width])));
        let weight = bf16(&(draw.randn(&[width]) + 1.0));
        for added in [None, Some(&added)] {
            for (seen, wanted) in outs(n, width).iter().zip(&outs(n, width)) {
                let (a, b) = (x.copy(), x.copy());
                kernels.rmsnorm_residual(&a, added, &weight, 1e-6, seen, next).unwrap();
                reference.rmsnorm_residual(&b, added, &weight, 1e-6, wanted, None).unwrap();
                assert!(a.equal(&b), "the residual");
                check_close(seen, wanted, "rmsnorm_residual");
            }
        }
    });
}

#[test]
fn silu_mul_is_the_reference() {
    at_all_sizes(12, |kernels, reference, draw, [n, width], next| {
        let gate_up = bf16(&(draw.randn(&[n, 2 * width]) * 3.0));
        for (seen, wanted) in outs(n, width).iter().zip(&outs(n, width)) {
            kernels.silu_mul(&gate_up, seen, next).unwrap();
            reference.silu_mul(&gate_up, wanted, None).unwrap();
            check_close(seen, wanted, "silu_mul");
        }
    });
}

#[test]
fn quantize_rows_is_the_reference() {
    at_all_sizes(13, |kernels, reference, draw, [n, width], _next| {
        let x = bf16(&draw.randn(&[n, width]));
        for (seen, wanted) in outs(n, width).iter().zip(&outs(n, width)) {
            kernels.quantize(&x, seen).unwrap();
            reference.quantize(&x, wanted).unwrap();
            check_close(seen, wanted, "quantize_rows");
        }
    });
}

#[test]
#[should_panic(expected = "silu_mul: `gate_up` is Float")]
fn kernel_call_with_another_number_format_names_kernel_and_parameter() {
    let kernels = emulator::kernels(HEADS, KvKind::Bf16, false);
    let [out, _] = outs(2, 8);
    let _ = kernels.silu_mul(&RandomTensors::new(14).randn(&[2, 16]), &out, None);
}
