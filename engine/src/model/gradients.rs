//! Gradients of parameters, added where they are kept.

use tch::{Kind, Tensor};

use crate::error::Error;

/// Adds a gradient to that of a parameter, a leaf that requires one.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn add(parameter: &Tensor, gradient: &Tensor) -> Result<(), Error> {
    let mut sum = parameter.grad();
    if !sum.defined() {
        // makes one: the derivative of this sum by the parameter is `gradient`, bit for bit
        let gradient = gradient.f_to_kind(parameter.kind())?;
        return tch::with_grad(|| Ok((parameter * gradient).sum(None::<Kind>).f_backward()?));
    }
    let _ = sum.f_add_(&gradient.f_to_kind(sum.kind())?)?;
    Ok(())
}

/// Adds the gradients of some rows of a parameter [V, H]: `rows` `[N]` i64, which may repeat, and
/// `gradient` [N, H] in the parameter's kind.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn add_rows(parameter: &Tensor, rows: &Tensor, gradient: &Tensor) -> Result<(), Error> {
    let mut sum = parameter.grad();
    if !sum.defined() {
        let mut of_rows = parameter.detach().zeros_like();
        let _ = of_rows.f_index_add_(0, rows, gradient)?;
        return add(parameter, &of_rows);
    }
    let _ = sum.f_index_add_(0, rows, gradient)?;
    Ok(())
}
