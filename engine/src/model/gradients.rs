//! Gradients of parameters, added where they are kept.

use tch::{Kind, Tensor};

use crate::error::Error;

/// The gradient of a parameter, a leaf that requires one; zeros where there was none.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn of(parameter: &Tensor) -> Result<Tensor, Error> {
    if !parameter.grad().defined() {
        // makes one without other memory than its own
        tch::with_grad(|| parameter.sum(None::<Kind>).f_backward())?;
        let _ = parameter.grad().f_zero_()?;
    }
    Ok(parameter.grad())
}

/// Adds a gradient to that of a parameter.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn add(parameter: &Tensor, gradient: &Tensor) -> Result<(), Error> {
    let mut sum = of(parameter)?;
    let _ = sum.f_add_(&gradient.f_to_kind(sum.kind())?)?;
    Ok(())
}

/// Adds the gradients of some rows of a parameter [V, H]: `rows` `[N]` i64, which may repeat, and
/// `gradient` [N, H] in the parameter's kind.
///
/// # Errors
/// [`Error::Tensor`] where libtorch refuses.
pub(super) fn add_rows(parameter: &Tensor, rows: &Tensor, gradient: &Tensor) -> Result<(), Error> {
    let _ = of(parameter)?.f_index_add_(0, rows, gradient)?;
    Ok(())
}
