//! Sampling of a batch's rows on the GPU: uploads the draws and reads back tokens and
//! log-probabilities. The kernel's arithmetic is that of `crate::sampler`.

use tch::{Kind, Tensor};

use super::ops::Ops;
use crate::error::Error;
use crate::sampler::{Drawn, RowSampling};

/// Draws one token for each of `draws` from rows of `logits` [B, V].
///
/// # Errors
/// [`Error::NotFinite`] where the model's output is NaN or infinite.
pub(super) fn sample(
    ops: &dyn Ops,
    logits: &Tensor,
    draws: &[RowSampling],
) -> Result<Vec<Drawn>, Error> {
    let device = logits.device();
    // several samples may be drawn from one row
    let is_in_order = draws.iter().map(|draw| draw.row).eq(0..logits.size()[0] as usize);
    let rows: Vec<i64> = draws.iter().map(|draw| draw.row as i64).collect();
    let logits = match is_in_order {
        true => logits.shallow_clone(),
        false => logits.f_index_select(0, &Tensor::f_from_slice(&rows)?.f_to_device(device)?)?,
    };
    let numbers: [fn(&RowSampling) -> f64; 4] =
        [|draw| draw.temperature, |draw| draw.top_p, |draw| draw.top_k as f64, |draw| draw.uniform];
    let numbers: Vec<f64> = numbers.iter().flat_map(|of| draws.iter().map(of)).collect();
    let n = rows.len() as i64;
    let draws = Tensor::f_from_slice(&numbers)?.f_view([4, n])?.f_to_device(device)?;
    let drawn = Tensor::f_empty([3, n], (Kind::Double, device))?;
    ops.sample(&logits, &draws, &drawn)?;
    let numbers = Vec::<f64>::try_from(drawn.f_view([-1])?)?;
    let drawn = (0..rows.len()).map(|row| {
        let [token, logprob, behaviour] = [0, 1, 2].map(|which| numbers[which * rows.len() + row]);
        let logprob = logprob as f32;
        match logprob.is_finite() {
            true => {
                let behaviour_logprob = behaviour as f32;
                Ok(Drawn { token: token as u32, logprob, behaviour_logprob })
            }
            false => Err(Error::NotFinite { logprob }),
        }
    });
    drawn.collect()
}
