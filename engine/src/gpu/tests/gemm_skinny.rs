//! The skinny GEMM against libtorch's FP8 product.

use tch::{Kind, Tensor};

use super::{CPU, HEADS, RandomTensors, bf16, check_close};
use crate::fp8::{quantize, quantize_tokens};
use crate::gpu::arena::KvKind;
use crate::gpu::emulator;
use crate::gpu::ops::{Activations, Ops};
use crate::gpu::reference::ReferenceOps;
use crate::model::Linear;

#[test]
fn gemm_w8a8_skinny_is_the_reference_product() {
    for (backwards, seed) in [(false, 41), (true, 42)] {
        let kernels = emulator::kernels(HEADS, KvKind::Bf16, backwards);
        check(&kernels, &ReferenceOps { heads: HEADS }, &RandomTensors::new(seed));
    }
}

/// Products of up to 64 tokens, with and without a bias, at widths that are no multiple of a turn.
fn check(kernels: &dyn Ops, reference: &dyn Ops, draw: &RandomTensors) {
    for (n, width, n_out) in [(1, 64, 48), (8, 80, 16), (9, 1_552, 64), (17, 96, 304), (64, 48, 80)]
    {
        for has_bias in [false, true] {
            let weight = draw.randn(&[n_out, width]) * (draw.randn(&[n_out, 1]) * 2.0).exp();
            let quantized = quantize("w", &weight).unwrap();
            let linear = Linear {
                weight: quantized.values,
                scale: Some(quantized.scale),
                bias: has_bias.then(|| bf16(&draw.randn(&[n_out]))),
                adapters: None,
            };
            let x = quantize_tokens(&(draw.randn(&[n, width]) * (draw.randn(&[n, 1]) * 2.0).exp()))
                .unwrap();
            let product = |ops: &dyn Ops| {
                let out = Tensor::full([n, n_out], f64::NAN, (Kind::BFloat16, CPU));
                ops.gemm_w8a8_skinny(&linear, &x.values, &x.scale.view([-1]), &out).unwrap();
                Activations::Plain(out)
            };
            check_close(&product(kernels), &product(reference), "few tokens");
        }
    }
}
