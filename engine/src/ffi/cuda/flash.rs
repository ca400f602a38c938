//! FlashAttention of libtorch's CUDA library.

use tch::Tensor;

use super::libtorch::{check, symbol_once};
use crate::error::Error;
use crate::ffi::tensors::{TensorHandle, handle};

type FlashForward = unsafe extern "C" fn(
    TensorHandle,
    TensorHandle,
    TensorHandle,
    *mut TensorHandle,
    *mut TensorHandle,
    i64,
    i64,
    f64,
    i32,
    i32,
    *mut f64,
    *mut i64,
    *mut i64,
    *mut TensorHandle,
    *mut TensorHandle,
    *mut TensorHandle,
    *mut TensorHandle,
    *mut TensorHandle,
    *mut TensorHandle,
    *mut TensorHandle,
) -> i32;

/// Causal attention of several sequences that are concatenated without padding (the variable-length
/// form of FlashAttention-2, arXiv 2307.08691). The last query of a sequence attends to all its
/// keys.
///
/// # Shapes
/// `q` [M, Hq, D] bf16, `k` and `v` [T, Hkv, D] bf16 → [M, Hq, D] bf16. `q_starts` and `k_starts`
/// `[B + 1]` i32 on the GPU: row at which each sequence starts, and the total. `longest_q` and
/// `longest_k`: maximum number of rows per sequence. `scale`: factor of the scores.
///
/// # Errors
/// [`Error::Device`] where libtorch refuses.
pub(crate) fn flash_attention(
    [q, k, v]: [&Tensor; 3],
    [q_starts, k_starts]: [&Tensor; 2],
    [longest_q, longest_k]: [i64; 2],
    mut scale: f64,
) -> Result<Tensor, Error> {
    let (mut q_starts, mut k_starts) = (handle(q_starts), handle(k_starts));
    let mut outs = [std::ptr::null_mut(); 5];
    let [out, lse, rng, unused, debug] = &mut outs;
    // SAFETY: the signature is that of c_shim_cuda.h in 2.11. The handles are at::Tensor pointers,
    // as tensors of tch are. All arguments outlive the call.
    let code = unsafe {
        let function: FlashForward =
            std::mem::transmute(symbol_once!(c"aoti_torch_cuda__flash_attention_forward"));
        function(
            handle(q),
            handle(k),
            handle(v),
            &raw mut q_starts,
            &raw mut k_starts,
            longest_q,
            longest_k,
            0.0,
            1,
            0,
            &raw mut scale,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            out,
            lse,
            rng,
            unused,
            debug,
        )
    };
    check("attention", code)?;
    // SAFETY: the call returned five owned tensors.
    let mut outs = outs.map(|out| unsafe { Tensor::from_ptr(out.cast()) });
    Ok(std::mem::replace(&mut outs[0], Tensor::new()))
}
