//! CPU tensors as slices, and libtorch's products with packed weights.

use std::ffi::{CStr, c_char, c_void};

use half::bf16;
use tch::{Device, Kind, Tensor};

use crate::error::Error;

/// A number format whose CPU tensors can be read and written as slices.
pub(crate) trait Plain: Copy + Send + Sync + 'static {
    /// The number format in libtorch.
    const KIND: Kind;
}

impl Plain for f32 {
    const KIND: Kind = Kind::Float;
}

impl Plain for bf16 {
    const KIND: Kind = Kind::BFloat16;
}

fn check<T: Plain>(tensor: &Tensor) {
    assert!(
        tensor.kind() == T::KIND && tensor.device() == Device::Cpu && tensor.is_contiguous(),
        "wanted a contiguous CPU tensor of the slice's number format. This is a bug."
    );
}

/// The tensor's values, row-major.
pub(crate) fn slice<T: Plain>(tensor: &Tensor) -> &[T] {
    check::<T>(tensor);
    if tensor.numel() == 0 {
        return &[];
    }
    // SAFETY: the tensor is contiguous, of T's kind, and lives as long as the slice. No thread
    // writes to it meanwhile: an engine's steps do not run concurrently with updates of its
    // weights.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), tensor.numel()) }
}

/// The tensor's values, row-major and mutable.
pub(crate) fn slice_mut<T: Plain>(tensor: &mut Tensor) -> &mut [T] {
    check::<T>(tensor);
    if tensor.numel() == 0 {
        return &mut [];
    }
    // SAFETY: as in `slice`; the caller has made the exclusively borrowed tensor itself.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), tensor.numel()) }
}

/// The bytes of a contiguous CPU tensor of any kind.
pub(crate) fn bytes(tensor: &Tensor) -> &[u8] {
    assert!(
        tensor.device() == Device::Cpu && tensor.is_contiguous(),
        "wanted a contiguous CPU tensor. This is a bug."
    );
    let n_bytes = tensor.numel() * tensor.kind().elt_size_in_bytes();
    if n_bytes == 0 {
        return &[];
    }
    // SAFETY: as in `slice`; the bytes of any value are valid bytes.
    unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), n_bytes) }
}

/// A tensor of `shape` and `kind` on `device` with the content of `bytes`, made with one copy.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(crate) fn from_bytes(
    bytes: &[u8],
    shape: &[i64],
    kind: Kind,
    device: Device,
) -> Result<Tensor, Error> {
    let n_values = shape.iter().product::<i64>() as usize;
    assert!(
        bytes.len() == n_values * kind.elt_size_in_bytes(),
        "wanted as many bytes as the tensor has. This is a bug."
    );
    // values in a file may have any address, but tensors need alignment
    let is_aligned = (bytes.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes());
    if device == Device::Cpu || !is_aligned {
        return Ok(Tensor::f_from_data_size(bytes, shape, kind)?.f_to_device(device)?);
    }
    // SAFETY: the memory is valid for the tensor's size and aligned. The tensor that borrows it is
    // only read, by a copy that ends before the borrow: copies from pageable memory are
    // synchronous.
    let borrowed = unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &[], kind, Device::Cpu)? };
    Ok(borrowed.f_to_device(device)?)
}

/// libtorch's pointer to a tensor, `at::Tensor*`.
pub(super) type TensorHandle = *mut c_void;

unsafe extern "C" {
    fn aoti_torch_call_dispatcher(
        op: *const c_char,
        overload: *const c_char,
        stack: *mut u64,
    ) -> i32;
    fn aoti_torch_new_tensor_handle(from: TensorHandle, to: *mut TensorHandle) -> i32;
    fn aoti_torch_cpu__linear_pointwise(
        x: TensorHandle,
        weight: TensorHandle,
        bias: *mut TensorHandle,
        attr: *const c_char,
        scalars: *const *const f64,
        n_scalars: i64,
        algorithm: *const *const c_char,
        out: *mut TensorHandle,
    ) -> i32;
}

/// libtorch's borrowed handle of a tensor.
pub(super) fn handle(tensor: &Tensor) -> TensorHandle {
    tensor.as_ptr().cast_mut().cast()
}

fn refused(what: &str) -> Error {
    Error::Tensor(tch::TchError::Torch(format!("{what} failed")))
}

/// A weight in oneDNN's own layout for products.
pub(crate) struct PackedWeight(Tensor);

impl PackedWeight {
    /// Packs a weight [N, K] on the CPU.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(crate) fn new(weight: &Tensor) -> Result<Self, Error> {
        let weight = weight.detach().contiguous();
        let mut owned: TensorHandle = std::ptr::null_mut();
        // SAFETY: the handle of a live tensor is copied. The dispatcher takes over the copy, and a
        // null for the optional batch size. It leaves an owned handle in the first entry of the
        // stack.
        let out = unsafe {
            if aoti_torch_new_tensor_handle(handle(&weight), &raw mut owned) != 0 {
                return Err(refused("copying a tensor's handle"));
            }
            let mut stack = [owned as u64, 0];
            let op = c"mkldnn::_reorder_linear_weight".as_ptr();
            if aoti_torch_call_dispatcher(op, c"".as_ptr(), stack.as_mut_ptr()) != 0 {
                return Err(refused("packing a weight for oneDNN"));
            }
            Tensor::from_ptr((stack[0] as TensorHandle).cast())
        };
        Ok(Self(out))
    }

    /// y = x·Wᵀ + b: `x` [M, K] → [M, N], in the weight's kind.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(crate) fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, Error> {
        onednn_linear(x, &self.0, bias)
    }
}

/// oneDNN's product y = x·Wᵀ + b on the CPU, without gradients: `x` [M, K], `weight` [N, K], plain
/// or packed → [M, N], in the weight's kind.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(crate) fn onednn_linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Tensor, Error> {
    const NONE: &CStr = c"none";
    let mut bias: Option<TensorHandle> = bias.map(handle);
    let mut out: TensorHandle = std::ptr::null_mut();
    // SAFETY: all handles are of live tensors, which the call borrows; no scalars and no algorithm
    // are passed; `out` is an owned handle.
    unsafe {
        let bias = bias.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut);
        let status = aoti_torch_cpu__linear_pointwise(
            handle(x),
            handle(weight),
            bias,
            NONE.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null(),
            &raw mut out,
        );
        match status {
            0 => Ok(Tensor::from_ptr(out.cast())),
            _ => Err(refused("a product by oneDNN")),
        }
    }
}
