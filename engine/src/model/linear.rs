//! A linear layer, plain or in FP8.
//!
//! A plain weight may be kept in f32 while the activations are bf16: the product casts it, and
//! gradients flow back to it. An FP8 weight has one scale per output channel, and its input is
//! quantised with one scale per token; it has no gradients.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tch::{Device, Kind, Tensor};

use super::adapter::FusedAdapters;
use super::{gradients, products};
use crate::error::Error;
use crate::ffi::cuda::stream::CudaStream;
use crate::fp8::{Quantized, quantize_tokens};

/// Last part of the name of an FP8 matrix's scale.
pub(super) const SCALE: &str = "weight_scale";

/// A linear layer: weight [N, K], optional bias, optional adapters.
#[derive(Debug)]
pub(crate) struct Linear {
    /// [N, K], plain or E4M3.
    pub(crate) weight: Tensor,
    /// [N, 1] f32 for an E4M3 weight.
    pub(crate) scale: Option<Tensor>,
    /// `[N]`
    pub(crate) bias: Option<Tensor>,
    /// What is trained in place of the weight.
    pub(crate) adapters: Option<FusedAdapters>,
}

/// Shapes [M, K, N] of FP8 products that cuBLASLt has refused with one scale per row.
static REFUSED: Mutex<BTreeSet<[i64; 3]>> = Mutex::new(BTreeSet::new());

fn is_refused(shape: [i64; 3]) -> bool {
    REFUSED.lock().is_ok_and(|refused| refused.contains(&shape))
}

fn refuse(shape: [i64; 3], error: &tch::TchError) {
    let [tokens, inputs, outputs] = shape;
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    tracing::warn!(
        tokens,
        inputs,
        outputs,
        reason,
        "cuBLASLt refuses an FP8 product with one scale per row; the result is scaled afterwards."
    );
    if let Ok(mut refused) = REFUSED.lock() {
        refused.insert(shape);
    }
}

impl Linear {
    /// A second handle to the same parameters; no memory is copied.
    pub(crate) fn shallow_clone(&self) -> Self {
        let optional = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::shallow_clone);
        Self {
            weight: self.weight.shallow_clone(),
            scale: optional(&self.scale),
            bias: optional(&self.bias),
            adapters: self.adapters.as_ref().map(FusedAdapters::shallow_clone),
        }
    }

    /// y = x·Wᵀ + b: `x` [M, K] → [M, N] in the kind of `x`.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        let y = self.product(x)?;
        match &self.adapters {
            Some(adapters) => adapters.add_output(&y, x),
            None => Ok(y),
        }
    }

    /// The layer without its adapters.
    fn product(&self, x: &Tensor) -> Result<Tensor, Error> {
        let kind = x.kind();
        let Some(scale) = &self.scale else {
            let bias = self.bias.as_ref().map(|bias| bias.to_kind(kind));
            return products::linear(x, &self.weight.f_to_kind(kind)?, bias.as_ref());
        };
        let x = quantize_tokens(x)?;
        if self.weight.device() == Device::Cpu {
            return self.emulated_product(&x, scale, kind);
        }
        let size = [x.values.size()[0], self.weight.size()[0]];
        let out = Tensor::f_empty(size, (kind, self.weight.device()))?;
        self.scaled_product(&x.values, &x.scale, &out)?;
        Ok(out)
    }

    /// The same layer without gradients; no memory is copied.
    pub(super) fn detach(&self) -> Self {
        let detached = |tensor: &Option<Tensor>| tensor.as_ref().map(Tensor::detach);
        Self {
            weight: self.weight.detach(),
            scale: detached(&self.scale),
            bias: detached(&self.bias),
            adapters: self.adapters.as_ref().map(FusedAdapters::detach),
        }
    }

    /// Adds the gradients of the parameters to `sums`, and returns the gradient of the input: `x`
    /// [M, K], `gradient` of the output [M, N] → [M, K].
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        gradient: &Tensor,
        sums: &Linear,
    ) -> Result<Tensor, Error> {
        let kind = x.kind();
        let weight = self.base_weight(kind)?.detach();
        if self.weight.requires_grad() {
            gradients::add(&sums.weight, &products::outer(gradient, x)?)?;
        }
        if let (Some(bias), Some(sum)) = (&self.bias, &sums.bias)
            && bias.requires_grad()
        {
            let by_bias = gradient.sum_dim_intlist([0i64].as_slice(), false, sum.kind());
            gradients::add(sum, &by_bias)?;
        }
        let by_input = products::product(gradient, &weight)?;
        match (&self.adapters, &sums.adapters) {
            (Some(adapters), Some(sums)) => Ok(by_input + adapters.backward(x, gradient, sums)?),
            _ => Ok(by_input),
        }
    }

    /// The product with inputs that are quantised already, written to `out`: `values` [M, K] E4M3,
    /// `scale` `[M]` f32 → [M, N]. Allocates nothing on a GPU.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(crate) fn quantized_product(
        &self,
        values: &Tensor,
        scale: &Tensor,
        out: &Tensor,
    ) -> Result<(), Error> {
        let scale = scale.f_view([-1, 1])?;
        if self.weight.device() != Device::Cpu {
            return self.scaled_product(values, &scale, out);
        }
        let x = by_row(values, &scale);
        out.shallow_clone().f_copy_(&self.emulated_product(&x, self.own_scale(), out.kind())?)?;
        Ok(())
    }

    /// Whether cuBLASLt has refused the product of `n` tokens with one scale per row.
    pub(crate) fn is_refused(&self, n: i64) -> bool {
        let size = self.weight.size();
        is_refused([n, size[1], size[0]])
    }

    fn own_scale(&self) -> &Tensor {
        let scale = self.scale.as_ref();
        scale.expect("only FP8 matrices are given FP8 inputs. This is a bug.")
    }

    /// Computes the product on FP8 tensor cores. Between two steps of the K dimension sums are kept
    /// in less than f32, as in inference engines (`use_fast_accum`). cuBLASLt refuses some shapes
    /// with one scale per row: these are multiplied without scales and scaled after.
    pub(super) fn scaled_product(
        &self,
        values: &Tensor,
        token_scale: &Tensor,
        out: &Tensor,
    ) -> Result<(), Error> {
        let weight = self.weight.f_transpose(0, 1)?;
        let scale = self.own_scale().f_view([1, -1])?;
        let product = |scales: [&Tensor; 2], bias: Option<&Tensor>| {
            let [by_token, by_channel] = scales;
            let kind = out.kind();
            values.f_internal_scaled_mm_out(
                out, &weight, by_token, by_channel, bias, None, kind, true,
            )
        };
        let shape = [values.size()[0], weight.size()[0], weight.size()[1]];
        if !is_refused(shape) {
            match product([token_scale, &scale], self.bias.as_ref()) {
                Ok(_) => return Ok(()),
                Err(error) => refuse(shape, &error),
            }
        }
        let one = unit_scale(out.device())?;
        let _ = product([&one, &one], None)?;
        let mut out = out.shallow_clone();
        let _ = out.f_mul_(token_scale)?;
        let _ = out.f_mul_(&scale)?;
        if let Some(bias) = &self.bias {
            let _ = out.f_add_(bias)?;
        }
        Ok(())
    }

    /// Reference of the tensor cores: the same numbers, multiplied and summed in f32.
    fn emulated_product(&self, x: &Quantized, scale: &Tensor, kind: Kind) -> Result<Tensor, Error> {
        let weight = by_row(&self.weight, scale).dequantize(Kind::Float)?;
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(Kind::Float));
        let y = x.dequantize(Kind::Float)?.f_linear(&weight, bias.as_ref())?;
        Ok(y.f_to_kind(kind)?)
    }

    /// The weight in `kind` without its adapters, dequantised where it is FP8.
    fn base_weight(&self, kind: Kind) -> Result<Tensor, Error> {
        match &self.scale {
            Some(scale) => by_row(&self.weight, scale).dequantize(kind),
            None => Ok(self.weight.f_to_kind(kind)?),
        }
    }

    /// The weight in `kind`, dequantised where it is FP8, and with its adapters.
    pub(crate) fn plain_weight(&self, kind: Kind) -> Result<Tensor, Error> {
        let weight = self.base_weight(kind)?;
        match &self.adapters {
            Some(adapters) => Ok(adapters.merged(&weight)?.f_to_kind(kind)?),
            None => Ok(weight),
        }
    }
}

/// A scale of 1 for a whole matrix, allocated once: recorded graphs must not allocate.
fn unit_scale(device: Device) -> Result<Tensor, Error> {
    static ONE: Mutex<Option<Tensor>> = Mutex::new(None);
    let mut one = ONE.lock().expect("no thread panics while it holds this lock. This is a bug.");
    if one.is_none() {
        *one = Some(Tensor::f_ones([1, 1], (Kind::Float, device))?);
        // other threads use it on other streams
        if device.is_cuda() {
            CudaStream::current()?.synchronize()?;
        }
    }
    let made = one.as_ref().map(Tensor::shallow_clone);
    Ok(made.expect("it was made above. This is a bug."))
}

fn by_row(weight: &Tensor, scale: &Tensor) -> Quantized {
    Quantized {
        values: weight.shallow_clone(),
        scale: scale.shallow_clone(),
        block: [1, weight.size()[1] as usize],
    }
}
