//! Products of plain matrices, for every pass over a model's layers.
//!
//! libtorch multiplies f32 by MKL, which uses half of an AMD processor's AVX-512 units; oneDNN uses
//! all of them and gives the same precision. It does not record gradients.

use std::sync::LazyLock;

use tch::{Device, Kind, Tensor};

use crate::error::Error;
use crate::ffi::tensors::onednn_linear;

static PREFERS_ONEDNN: LazyLock<bool> = LazyLock::new(is_amd_with_avx512);

#[cfg(target_arch = "x86_64")]
fn is_amd_with_avx512() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
    name == b"AuthenticAMD" && std::arch::is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_amd_with_avx512() -> bool {
    false
}

/// Whether f32 products are oneDNN's on this processor.
pub(crate) fn prefers_onednn() -> bool {
    *PREFERS_ONEDNN
}

fn is_for_onednn(x: &Tensor, y: &Tensor) -> bool {
    let is_plain = x.kind() == Kind::Float && x.device() == Device::Cpu;
    let records = x.requires_grad() || y.requires_grad();
    is_plain && !records && x.dim() == 2 && x.numel() > 0 && *PREFERS_ONEDNN
}

/// x·Wᵀ + b: [M, K], [N, K], `[N]` → [M, N]. Gradients are recorded for tensors that require them.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, Error> {
    let records = bias.is_some_and(Tensor::requires_grad);
    match is_for_onednn(x, weight) && !records {
        true => onednn_linear(x, weight, bias),
        false => Ok(x.f_linear(weight, bias)?),
    }
}

/// x·W, as for the gradient of an input: [M, N], [N, K] → [M, K].
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor, Error> {
    match is_for_onednn(x, weight) {
        true => onednn_linear(x, &weight.f_transpose(0, 1)?, None),
        false => Ok(x.f_matmul(weight)?),
    }
}

/// xᵀ·y, as for the gradient of a weight: [M, N], [M, K] → [N, K]. oneDNN is faster where the
/// result has fewer rows than columns, and computes its transpose otherwise.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn outer(x: &Tensor, y: &Tensor) -> Result<Tensor, Error> {
    let (x_columns, y_columns) = (x.f_transpose(0, 1)?, y.f_transpose(0, 1)?);
    match (is_for_onednn(x, y), x.size()[1] > y.size()[1]) {
        (true, true) => Ok(onednn_linear(&y_columns, &x_columns, None)?.f_transpose(0, 1)?),
        (true, false) => onednn_linear(&x_columns, &y_columns, None),
        (false, _) => Ok(x_columns.f_matmul(y)?),
    }
}
