//! Measures the products of a step: by libtorch in bf16 and FP8, and by the skinny GEMM kernel.

use std::cell::Cell;

use tch::{Kind, Tensor};

use super::stage::{BF16_STEP, MeasureStage, deviation, values};
use crate::config::ModelConfig;
use crate::error::Error;
use crate::fp8::{Quantized, quantize, quantize_tokens};
use crate::gpu::buffers;
use crate::gpu::ops::{Activations, Ops};
use crate::gpu::tuning::SKINNY_GEMM_MAX_TOKENS;
use crate::model::Linear;

/// More bytes than the last cache of any GPU holds.
const CACHE_BYTES: i64 = 100 << 20;

/// Measures the products of a layer and of the output head.
pub(super) fn measure(stage: &mut MeasureStage, config: &ModelConfig, kernels: &dyn Ops, n: i64) {
    let heads = buffers::heads(config);
    let (hidden, width) = (config.hidden_size as i64, config.intermediate_size as i64);
    let matrices = [
        ("qkv", [heads.qkv_width(), hidden]),
        ("output", [hidden, heads.q_width()]),
        ("gate_up", [2 * width, hidden]),
        ("down", [hidden, width]),
        ("head", [config.vocab_size as i64, hidden]),
    ];
    for (name, size) in matrices {
        stage.try_parts(&format!("{name} product"), n as usize, |stage| {
            matrix(stage, kernels, name, size, n)
        });
    }
}

/// Measures one matrix [N, K] times `n` tokens.
fn matrix(
    stage: &mut MeasureStage,
    kernels: &dyn Ops,
    name: &str,
    [n_out, n_in]: [i64; 2],
    n: i64,
) -> Result<(), Error> {
    // several copies of small matrices in turn, so that none is still in the cache
    let n_copies = (1 + CACHE_BYTES / (n_out * n_in)).min(4) as usize;
    let turn = Cell::new(0);
    let next = || {
        turn.set((turn.get() + 1) % n_copies);
        turn.get()
    };
    let drawn = |_| Ok((stage.randn(&[n_out, n_in])? * 0.02).f_to_kind(Kind::BFloat16)?);
    let weights = (0..n_copies).map(drawn).collect::<Result<Vec<_>, Error>>()?;
    let x = stage.bf16(&[n, n_in])?;
    let out = Tensor::f_zeros([n, n_out], (Kind::BFloat16, stage.device))?;
    let flops = 2.0 * (n * n_out) as f64 * n_in as f64;
    let by_bf16 = |copy: usize| -> Result<(), Error> {
        let _ = x.f_mm_out(&out, &weights[copy].f_transpose(0, 1)?)?;
        Ok(())
    };
    by_bf16(0)?;
    let wanted = Activations::Plain(out.copy());
    let bytes = 2 * (n_out * n_in + n * (n_in + n_out)) as usize;
    let part = format!("{name} product in bf16");
    stage.add(&part, n as usize, None, bytes, flops, &|| by_bf16(next()))?;

    let linear = |weight: &Tensor| -> Result<Linear, Error> {
        let Quantized { values, scale, .. } = quantize(name, weight)?;
        Ok(Linear { weight: values, scale: Some(scale), bias: None, adapters: None })
    };
    let linears = weights.iter().map(linear).collect::<Result<Vec<_>, Error>>()?;
    drop(weights);
    let inputs = quantize_tokens(&x)?;
    let by_fp8 = |copy: usize| linears[copy].quantized_product(&inputs.values, &inputs.scale, &out);
    by_fp8(0)?;
    let off =
        (values(&Activations::Plain(out.copy())) - values(&wanted)).norm() / values(&wanted).norm();
    let compared = Some((off.double_value(&[]), 0.06));
    let bytes = (n_out * n_in + n * (n_in + 2 * n_out)) as usize;
    let part = format!("{name} product in fp8");
    stage.add(&part, n as usize, compared, bytes, flops, &|| by_fp8(next()))?;
    if n <= SKINNY_GEMM_MAX_TOKENS {
        let by_kernel = |copy: usize| {
            kernels.gemm_w8a8_skinny(&linears[copy], &inputs.values, &inputs.scale, &out)
        };
        by_fp8(0)?;
        let wanted = Activations::Plain(out.copy());
        by_kernel(0)?;
        let seen = Activations::Plain(out.copy());
        let compared = Some((deviation(&seen, &wanted), BF16_STEP));
        let part = format!("{name} product in fp8, few tokens");
        stage.add(&part, n as usize, compared, bytes, flops, &|| by_kernel(next()))?;
    }
    Ok(())
}
