//! Low-rank adapters of linear layers (LoRA, Hu et al., arXiv 2106.09685): beside a weight that
//! stays as it is, y gets `scale`·(x·Aᵀ)·Bᵀ. It knows no files.

use tch::{Kind, Tensor};

use super::{gradients, products};
use crate::error::Error;

/// The adapter of one projection.
#[derive(Debug)]
pub(crate) struct Adapter {
    /// [R, K]
    pub(crate) a: Tensor,
    /// [N, R]
    pub(crate) b: Tensor,
    /// Factor of the adapter's output.
    pub(crate) scale: f64,
}

/// The adapters of the projections that are fused in one linear layer: of each of them, its number
/// of rows, and its adapter if it has one.
#[derive(Debug)]
pub(crate) struct FusedAdapters(pub(crate) Vec<(i64, Option<Adapter>)>);

impl Adapter {
    fn shallow_clone(&self) -> Self {
        Self { a: self.a.shallow_clone(), b: self.b.shallow_clone(), scale: self.scale }
    }

    fn detach(&self) -> Self {
        Self { a: self.a.detach(), b: self.b.detach(), scale: self.scale }
    }

    /// What the adapter adds to the output for `x` [M, K]: [M, N] in the kind of `x`.
    fn output(&self, x: &Tensor) -> Result<Tensor, Error> {
        let kind = x.kind();
        let linear =
            |x: &Tensor, weight: &Tensor| x.f_linear(&weight.f_to_kind(kind)?, None::<&Tensor>);
        Ok(linear(&linear(x, &self.a)?, &self.b)? * self.scale)
    }

    /// Adds the gradients of both matrices to `sums`, and returns what the adapter adds to the
    /// gradient of the input [M, K], from the gradient of the output [M, N].
    fn backward(&self, x: &Tensor, gradient: &Tensor, sums: &Adapter) -> Result<Tensor, Error> {
        let kind = x.kind();
        let [a, b] = [&self.a, &self.b].map(|matrix| matrix.detach().to_kind(kind));
        let gradient = gradient * self.scale;
        let by_rank = products::product(&gradient, &b)?; // [M, R]
        gradients::add(&sums.a, &products::outer(&by_rank, x)?)?;
        gradients::add(&sums.b, &products::outer(&gradient, &products::linear(x, &a, None)?)?)?;
        products::product(&by_rank, &a)
    }

    /// What the adapter adds to the weight: [N, K] f32, or f64 for f64 matrices.
    fn weight(&self) -> Result<Tensor, Error> {
        let wide = if self.a.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        Ok(self.b.f_to_kind(wide)?.f_matmul(&self.a.f_to_kind(wide)?)? * self.scale)
    }
}

impl FusedAdapters {
    /// A second handle to the same matrices; no memory is copied.
    pub(crate) fn shallow_clone(&self) -> Self {
        self.map(Adapter::shallow_clone)
    }

    /// The same matrices without gradients; no memory is copied.
    pub(crate) fn detach(&self) -> Self {
        self.map(Adapter::detach)
    }

    fn map(&self, change: impl Fn(&Adapter) -> Adapter) -> Self {
        Self(self.0.iter().map(|(rows, adapter)| (*rows, adapter.as_ref().map(&change))).collect())
    }

    /// The output `y` [M, N] of the layer for `x` [M, K], with what the adapters add.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(crate) fn add_output(&self, y: &Tensor, x: &Tensor) -> Result<Tensor, Error> {
        if let [(_, Some(only))] = &self.0[..] {
            return Ok(y + only.output(x)?);
        }
        let sizes: Vec<i64> = self.0.iter().map(|(rows, _)| *rows).collect();
        let parts = y.f_split_with_sizes(&sizes[..], 1)?;
        let parts = parts.into_iter().zip(&self.0).map(|(y, (_, adapter))| match adapter {
            Some(adapter) => Ok(y + adapter.output(x)?),
            None => Ok(y),
        });
        Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>, Error>>()?, 1)?)
    }

    /// Adds the gradients of all matrices to `sums`, and returns what the adapters add to the
    /// gradient of the input `x` [M, K], from the gradient of the output [M, N].
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        gradient: &Tensor,
        sums: &FusedAdapters,
    ) -> Result<Tensor, Error> {
        let sizes: Vec<i64> = self.0.iter().map(|(rows, _)| *rows).collect();
        let parts = gradient.f_split_with_sizes(&sizes[..], 1)?;
        let mut sum = x.zeros_like();
        for ((gradient, (_, adapter)), (_, sums)) in parts.iter().zip(&self.0).zip(&sums.0) {
            if let (Some(adapter), Some(sums)) = (adapter, sums) {
                sum += adapter.backward(x, gradient, sums)?;
            }
        }
        Ok(sum)
    }

    /// The weight [N, K] with what the adapters add: f32, or f64 for f64 matrices.
    ///
    /// # Errors
    /// [`Error::Tensor`] where libtorch refuses.
    pub(crate) fn merged(&self, weight: &Tensor) -> Result<Tensor, Error> {
        let sizes: Vec<i64> = self.0.iter().map(|(rows, _)| *rows).collect();
        let parts = weight.f_split_with_sizes(&sizes[..], 0)?;
        let parts = parts.into_iter().zip(&self.0).map(|(weight, (_, adapter))| match adapter {
            Some(adapter) => {
                let added = adapter.weight()?;
                Ok(weight.f_to_kind(added.kind())? + added)
            }
            None if weight.kind() == Kind::Double => Ok(weight),
            None => Ok(weight.f_to_kind(Kind::Float)?),
        });
        Ok(Tensor::f_cat(&parts.collect::<Result<Vec<_>, Error>>()?, 0)?)
    }
}
