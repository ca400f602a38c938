//! A linear layer, plain or in FP8.
//!
//! A plain weight may be kept in f32 while the activations are bf16: the product casts it, and
//! gradients flow back to it. An FP8 weight has a scale an output channel and its input is quantised a
//! token at a time; it has no gradients.

use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::fp8::{Quantized, quantize_tokens};

/// A weight [N, K] with its bias.
#[derive(Debug)]
pub(crate) struct Linear {
    /// [N, K], plain or E4M3.
    pub(crate) weight: Tensor,
    /// [N, 1] f32 for an E4M3 weight.
    pub(crate) scale: Option<Tensor>,
    /// `[N]`
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// The same parameters a second time, in the same memory.
    pub(crate) fn shallow_clone(&self) -> Self {
        let optional = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self {
            weight: self.weight.shallow_clone(),
            scale: optional(&self.scale),
            bias: optional(&self.bias),
        }
    }

    /// y = x·Wᵀ + b: `x` [M, K] → [M, N] in the kind of `x`.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let kind = x.kind();
        let Some(scale) = &self.scale else {
            let bias = self.bias.as_ref().map(|bias| bias.to_kind(kind));
            return Ok(x.f_linear(&self.weight.f_to_kind(kind)?, bias.as_ref())?);
        };
        let x = quantize_tokens(x)?;
        if self.weight.device() == Device::Cpu {
            return self.emulated_product(&x, scale, kind);
        }
        let size = [x.values.size()[0], self.weight.size()[0]];
        let out = Tensor::f_empty(size, (kind, self.weight.device()))?;
        self.scaled_product(&x.values, &x.scale, scale, &out)?;
        Ok(out)
    }

    /// The product with inputs that are quantised already, written to `out`: `values` [M, K] E4M3, `scale`
    /// `[M]` f32 → [M, N]. Allocates nothing on a GPU.
    ///
    /// # Errors
    /// What libtorch refuses.
    pub(crate) fn quantized_product(
        &self,
        values: &Tensor,
        scale: &Tensor,
        out: &Tensor,
    ) -> Result<(), Error> {
        let own = self.scale.as_ref();
        let own = own.expect("only FP8 matrices are given FP8 inputs. This is a bug.");
        let scale = scale.f_view([-1, 1])?;
        if self.weight.device() != Device::Cpu {
            return self.scaled_product(values, &scale, own, out);
        }
        let x = by_row(values, &scale);
        out.shallow_clone().f_copy_(&self.emulated_product(&x, own, out.kind())?)?;
        Ok(())
    }

    /// On FP8 tensor cores; sums are kept in less than f32 between two steps of the K dimension, as
    /// inference engines have it (`use_fast_accum`).
    fn scaled_product(
        &self,
        values: &Tensor,
        token_scale: &Tensor,
        scale: &Tensor,
        out: &Tensor,
    ) -> Result<(), Error> {
        let _ = values.f_internal_scaled_mm_out(
            out,
            &self.weight.f_transpose(0, 1)?,
            token_scale,
            &scale.f_view([1, -1])?,
            self.bias.as_ref(),
            None,
            out.kind(),
            true,
        )?;
        Ok(())
    }

    /// The same numbers, multiplied and summed in f32: what the tensor cores are tested against.
    fn emulated_product(&self, x: &Quantized, scale: &Tensor, kind: Kind) -> Result<Tensor, Error> {
        let weight = by_row(&self.weight, scale).dequantize(Kind::Float)?;
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(Kind::Float));
        let y = x.dequantize(Kind::Float)?.f_linear(&weight, bias.as_ref())?;
        Ok(y.f_to_kind(kind)?)
    }

    /// The weight in `kind`, dequantised where it is FP8.
    pub(crate) fn plain_weight(&self, kind: Kind) -> Result<Tensor, Error> {
        match &self.scale {
            Some(scale) => by_row(&self.weight, scale).dequantize(kind),
            None => Ok(self.weight.f_to_kind(kind)?),
        }
    }
}

fn by_row(weight: &Tensor, scale: &Tensor) -> Quantized {
    Quantized {
        values: weight.shallow_clone(),
        scale: scale.shallow_clone(),
        block: [1, weight.size()[1] as usize],
    }
}
