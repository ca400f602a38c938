//! Reference implementation of the operations by libtorch, on any device. The kernels are tested
//! against it, and it runs where they are switched off. Plain rather than fast.

use tch::{Kind, Tensor};

use super::arena::LayerArena;
use super::ops::{Activations, DecodeContexts, Heads, Ops, Prefetch};
use crate::error::Error;
use crate::fp8::quantize_tokens;
use crate::kv::BLOCK_TOKENS;
use crate::model::{HeadNorms, Linear};
use crate::sampler::{self, RowSampling};

/// See [`Ops`].
pub(super) struct ReferenceOps {
    pub(super) heads: Heads,
}

/// Writes f32 activations in the number format of `out`.
fn write(y: &Tensor, out: &Activations) -> Result<(), Error> {
    match out {
        Activations::Plain(out) => out.shallow_clone().f_copy_(y)?,
        Activations::Fp8(values, scale) => {
            let quantized = quantize_tokens(y)?;
            values.shallow_clone().f_copy_(&quantized.values)?;
            scale.shallow_clone().f_copy_(&quantized.scale.f_view([-1])?)?;
        }
    }
    Ok(())
}

impl ReferenceOps {
    /// Rotary embedding in the half-split layout: [n, heads, D] f32.
    fn rotate(&self, x: &Tensor, positions: &Tensor, inv_freq: &Tensor) -> Result<Tensor, Error> {
        let angles = positions.f_to_kind(Kind::Float)?.f_unsqueeze(1)? * inv_freq.f_unsqueeze(0)?;
        let (cos, sin) = (angles.f_cos()?.f_unsqueeze(1)?, angles.f_sin()?.f_unsqueeze(1)?);
        let halves = x.f_chunk(2, 2)?;
        let y1 = &halves[0] * &cos - &halves[1] * &sin;
        let y2 = &halves[1] * &cos + &halves[0] * &sin;
        Ok(Tensor::f_cat(&[y1, y2], 2)?)
    }
}

impl Ops for ReferenceOps {
    fn rmsnorm_residual(
        &self,
        x: &Tensor,
        more: Option<&Tensor>,
        weight: &Tensor,
        eps: f64,
        out: &Activations,
        _next: Prefetch,
    ) -> Result<(), Error> {
        if let Some(more) = more {
            let _ = x.shallow_clone().f_add_(more)?;
        }
        let mean = x.f_square()?.f_mean_dim([-1i64].as_slice(), true, Kind::Float)?;
        let y = x.f_mul(&mean.f_add_scalar(eps)?.f_rsqrt()?)?;
        write(&y.f_mul(&weight.f_to_kind(Kind::Float)?)?, out)
    }

    fn silu_mul(&self, gate_up: &Tensor, out: &Activations, _next: Prefetch) -> Result<(), Error> {
        let halves = gate_up.f_to_kind(Kind::Float)?.f_chunk(2, 1)?;
        write(&halves[0].f_silu()?.f_mul(&halves[1])?, out)
    }

    fn quantize(&self, x: &Tensor, out: &Activations) -> Result<(), Error> {
        write(&x.f_to_kind(Kind::Float)?, out)
    }

    fn rope_append(
        &self,
        qkv: &Tensor,
        positions: &Tensor,
        inv_freq: &Tensor,
        slots: &Tensor,
        norms: Option<&HeadNorms>,
        arena: &LayerArena,
    ) -> Result<(), Error> {
        let Heads { n_heads, n_kv_heads, head_dim, .. } = self.heads;
        let heads = qkv.f_view([-1, n_heads + 2 * n_kv_heads, head_dim])?;
        let wide = heads.f_to_kind(Kind::Float)?;
        let parts = wide.f_split_with_sizes([n_heads + n_kv_heads, n_kv_heads], 1)?;
        let normed = norms.map(|norms| norms.apply(&parts[0], n_heads));
        let rotated = self.rotate(normed.as_ref().unwrap_or(&parts[0]), positions, inv_freq)?;
        let parts_of_rotated = rotated.f_split_with_sizes([n_heads, n_kv_heads], 1)?;
        let is_real = slots.f_ge(0.0)?;
        // padding keeps its queries
        let queries = heads.f_narrow(1, 0, n_heads)?;
        let kept = queries.f_to_kind(Kind::Float)?;
        let chosen = parts_of_rotated[0].f_where_self(&is_real.f_view([-1, 1, 1])?, &kept)?;
        queries.shallow_clone().f_copy_(&chosen)?;
        let rows = is_real.f_nonzero()?.f_view([-1])?;
        let slots = slots.f_index_select(0, &rows)?.f_to_kind(Kind::Int64)?;
        let block = slots.f_divide_scalar_mode(BLOCK_TOKENS as i64, "floor")?;
        let offset = slots.f_remainder(BLOCK_TOKENS as i64)?;
        let index = [Some(&block), None, Some(&offset)];
        let stores = [(&parts_of_rotated[1], &arena.keys, 0), (&parts[1], &arena.values, 1)];
        for (heads, store, which) in stores {
            let heads = heads.f_index_select(0, &rows)?; // [n, Hkv, D]
            match &arena.scales {
                None => {
                    let heads = heads.f_to_kind(Kind::BFloat16)?;
                    let _ = store.shallow_clone().f_index_put_(&index, &heads, false)?;
                }
                Some(scales) => {
                    let quantized = quantize_tokens(&heads.f_reshape([-1, head_dim])?)?;
                    let bytes = quantized.values.f_view_dtype(Kind::Uint8)?;
                    let bytes = bytes.f_view([-1, n_kv_heads, head_dim])?;
                    let _ = store.f_view_dtype(Kind::Uint8)?.f_index_put_(&index, &bytes, false)?;
                    let scale = quantized.scale.f_view([-1, n_kv_heads])?;
                    let mut scales = scales[which].shallow_clone();
                    let _ = scales.f_index_put_(&index, &scale, false)?;
                }
            }
        }
        Ok(())
    }

    fn gather_kv(
        &self,
        arena: &LayerArena,
        slots: &Tensor,
        out: &[Tensor; 2],
    ) -> Result<(), Error> {
        let slots = slots.f_to_kind(Kind::Int64)?;
        let block = slots.f_divide_scalar_mode(BLOCK_TOKENS as i64, "floor")?;
        let offset = slots.f_remainder(BLOCK_TOKENS as i64)?;
        let gathered = arena.gather(&block, &offset, Kind::BFloat16)?;
        for (out, gathered) in out.iter().zip(&gathered) {
            out.shallow_clone().f_copy_(gathered)?;
        }
        Ok(())
    }

    /// The first split holds the whole context, the others are empty.
    fn attend_decode(
        &self,
        qkv: &Tensor,
        arena: &LayerArena,
        contexts: &DecodeContexts,
        partial: &Tensor,
        lse: &Tensor,
    ) -> Result<(), Error> {
        let Heads { n_heads, n_kv_heads, head_dim, .. } = self.heads;
        let n_rows = contexts.n_spans.size()[0];
        let _ = lse.shallow_clone().f_fill_(f64::NEG_INFINITY)?;
        let counts = Vec::<i64>::try_from(contexts.n_spans.f_to_kind(Kind::Int64)?)?;
        for row in 0..n_rows {
            let n_spans = counts[row as usize];
            if n_spans == 0 {
                continue;
            }
            let spans = contexts.spans.f_get(row)?.f_narrow(0, 0, n_spans)?;
            let spans = Vec::<i64>::try_from(spans.f_to_kind(Kind::Int64)?)?;
            let slots =
                spans.iter().flat_map(|&span| (0..span & 31).map(move |at| (span >> 5, at)));
            let (blocks, offsets): (Vec<i64>, Vec<i64>) = slots.unzip();
            let place = |values: Vec<i64>| Tensor::f_from_slice(&values)?.f_to_device(qkv.device());
            let places = [place(blocks)?, place(offsets)?];
            let [keys, values] = arena.gather(&places[0], &places[1], Kind::Float)?;
            let q = qkv.f_get(row)?.f_narrow(0, 0, n_heads * head_dim)?;
            let q = q.f_view([n_kv_heads, n_heads / n_kv_heads, head_dim])?;
            let across = |x: Tensor| x.f_transpose(0, 1); // [Hkv, T, D]
            let scores = q.f_to_kind(Kind::Float)?.f_matmul(&across(keys)?.f_transpose(1, 2)?)?;
            let scores = scores * self.heads.scale; // [Hkv, G, T]
            let out = scores.f_softmax(-1, Kind::Float)?.f_matmul(&across(values)?)?;
            let of_row = |tensor: &Tensor| tensor.f_get(row)?.f_get(0);
            of_row(partial)?.f_copy_(&out.f_view([-1])?)?;
            of_row(lse)?.f_copy_(&scores.f_logsumexp([-1i64].as_slice(), false)?.f_view([-1])?)?;
        }
        Ok(())
    }

    fn merge_splits(
        &self,
        partial: &Tensor,
        lse: &Tensor,
        out: &Activations,
        _next: Prefetch,
    ) -> Result<(), Error> {
        let size = lse.size(); // [R, S, Hq]
        let weights =
            lse.f_softmax(1, Kind::Float)?.f_nan_to_num(0.0, 0.0, 0.0)?.f_unsqueeze(-1)?;
        let partial = partial.f_view([size[0], size[1], size[2], self.heads.head_dim])?;
        // an empty split was never written
        let parts = partial.f_where_self(&weights.f_gt(0.0)?, &partial.zeros_like())?;
        let merged = (parts * weights).f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
        write(&merged.f_view([size[0], -1])?, out)
    }

    fn gemm_w8a8_skinny(
        &self,
        linear: &Linear,
        values: &Tensor,
        scale: &Tensor,
        out: &Tensor,
    ) -> Result<(), Error> {
        linear.quantized_product(values, scale, out)
    }

    fn sample(&self, logits: &Tensor, draws: &Tensor, drawn: &Tensor) -> Result<(), Error> {
        let numbers = |which: i64| -> Result<Vec<f64>, Error> {
            Ok(Vec::<f64>::try_from(draws.f_get(which)?)?)
        };
        let (temperature, top_p) = (numbers(0)?, numbers(1)?);
        let (top_k, uniform) = (numbers(2)?, numbers(3)?);
        let rows = (0..temperature.len()).map(|row| RowSampling {
            row,
            temperature: temperature[row],
            top_p: top_p[row],
            top_k: top_k[row] as usize,
            uniform: uniform[row],
        });
        let sampled = sampler::sample(logits, &rows.collect::<Vec<_>>())?;
        let tokens = sampled.iter().map(|drawn| f64::from(drawn.token));
        let logprobs = sampled.iter().map(|drawn| f64::from(drawn.logprob));
        let behaviour = sampled.iter().map(|drawn| f64::from(drawn.behaviour_logprob));
        let numbers: Vec<f64> = tokens.chain(logprobs).chain(behaviour).collect();
        let numbers = Tensor::f_from_slice(&numbers)?.f_view_as(drawn)?;
        Ok(drawn.shallow_clone().f_copy_(&numbers)?)
    }
}
