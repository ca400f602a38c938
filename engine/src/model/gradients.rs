//! Gradients of parameters, added where they are kept: in a model of the same shape, whose
//! parameters are the sums.

use tch::Tensor;

use crate::error::Error;

/// A parameter, and the sum of its gradients in the number format that they are summed in.
#[derive(Clone, Copy)]
pub(super) struct Parameter<'a> {
    pub(super) value: &'a Tensor,
    pub(super) gradient: &'a Tensor,
}

/// Adds a gradient to a sum of gradients.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn add(sum: &Tensor, gradient: &Tensor) -> Result<(), Error> {
    let mut sum = sum.shallow_clone();
    let _ = sum.f_add_(&gradient.f_to_kind(sum.kind())?)?;
    Ok(())
}

/// Adds the gradients of some rows to a sum of gradients [V, H]: `rows` `[N]` i64, which may
/// repeat, and `gradient` [N, H].
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn add_rows(sum: &Tensor, rows: &Tensor, gradient: &Tensor) -> Result<(), Error> {
    let mut sum = sum.shallow_clone();
    let _ = sum.f_index_add_(0, rows, &gradient.f_to_kind(sum.kind())?)?;
    Ok(())
}
