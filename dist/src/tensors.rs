//! Collectives of tensors: on GPUs by NCCL, else by Gloo. Every call is checked before anything is
//! sent, so that a mistake is an error of the rank that made it.

use tch::{Kind, Tensor};

use crate::collectives::Collectives;
use crate::error::Error;
use crate::planned_call::{Collective, FORMATS, PlannedCall};
use crate::work::Work;

/// Tensors are contiguous, of any shape, on the device that was joined with, and of f32, bf16, f64,
/// i64 or u8. They are read and written as flat memory: gradients and views do not matter. N is the
/// number of ranks.
impl Collectives {
    /// Replaces a tensor by its sum over all ranks.
    ///
    /// # Errors
    /// [`Error::Refused`] for a tensor that does not fit; otherwise as [`Work::wait`].
    pub fn all_reduce_sum(&self, tensor: &mut Tensor) -> Result<(), Error> {
        self.start_all_reduce_sum(tensor)?.wait()
    }

    /// Starts [`Self::all_reduce_sum`].
    ///
    /// # Errors
    /// As [`Self::all_reduce_sum`].
    pub fn start_all_reduce_sum<'a>(&'a self, tensor: &'a mut Tensor) -> Result<Work<'a>, Error> {
        let collective = Collective::AllReduceSum;
        let flat = self.flat(collective, "the tensor", tensor)?;
        let call = PlannedCall::of_tensors(collective, flat.kind(), flat.numel());
        let Some(turn) = self.turn()? else { return Ok(Work::done()) };
        turn.announce(&call, &[])?;
        if flat.numel() == 0 {
            return Ok(Work::done());
        }
        let work = turn.on_tensors(|group| group.all_reduce_sum(&flat))?;
        Ok(Work::started(turn.group(), work))
    }

    /// Sums `input` over all ranks and puts this rank's N-th part of the sum into `output`: rank r
    /// has the r-th. `output` may be that part of `input`, whose other values are then undefined.
    ///
    /// # Shapes
    /// `output` [n values], `input` [N·n values].
    ///
    /// # Errors
    /// [`Error::Refused`] for tensors that do not fit; otherwise as [`Work::wait`].
    pub fn reduce_scatter_sum(&self, input: &Tensor, output: &mut Tensor) -> Result<(), Error> {
        self.start_reduce_scatter_sum(input, output)?.wait()
    }

    /// Starts [`Self::reduce_scatter_sum`].
    ///
    /// # Errors
    /// As [`Self::reduce_scatter_sum`].
    pub fn start_reduce_scatter_sum<'a>(
        &'a self,
        input: &'a Tensor,
        output: &'a mut Tensor,
    ) -> Result<Work<'a>, Error> {
        self.reduce_scatter_sum_of(input, output)
    }

    /// As [`Self::start_reduce_scatter_sum`], with handles of its own to both tensors: until the
    /// work has ended, their memory belongs to it.
    ///
    /// # Errors
    /// As [`Self::reduce_scatter_sum`].
    pub fn reduce_scatter_sum_of(
        &self,
        input: &Tensor,
        output: &Tensor,
    ) -> Result<Work<'_>, Error> {
        let collective = Collective::ReduceScatterSum;
        let whole = self.flat(collective, "the input", input)?;
        let part = self.flat(collective, "the output", output)?;
        self.check_parts(collective, &whole, &part)?;
        let call = PlannedCall::of_tensors(collective, whole.kind(), whole.numel());
        let Some(turn) = self.turn()? else { return copy(part, &whole) };
        turn.announce(&call, &[])?;
        if whole.numel() == 0 {
            return Ok(Work::done());
        }
        let work = turn.on_tensors(|group| group.reduce_scatter_sum(&part, &whole))?;
        Ok(Work::started(turn.group(), work))
    }

    /// Puts the `input` of rank r into the r-th part of `output`, on all ranks. `input` may be this
    /// rank's part of `output`: then only the others are written.
    ///
    /// # Shapes
    /// `output` [N·n values], `input` [n values].
    ///
    /// # Errors
    /// [`Error::Refused`] for tensors that do not fit; otherwise as [`Work::wait`].
    pub fn all_gather(&self, output: &mut Tensor, input: &Tensor) -> Result<(), Error> {
        self.start_all_gather(output, input)?.wait()
    }

    /// Starts [`Self::all_gather`].
    ///
    /// # Errors
    /// As [`Self::all_gather`].
    pub fn start_all_gather<'a>(
        &'a self,
        output: &'a mut Tensor,
        input: &'a Tensor,
    ) -> Result<Work<'a>, Error> {
        self.all_gather_of(output, input)
    }

    /// As [`Self::start_all_gather`], with handles of its own to both tensors: until the work has
    /// ended, their memory belongs to it.
    ///
    /// # Errors
    /// As [`Self::all_gather`].
    pub fn all_gather_of(&self, output: &Tensor, input: &Tensor) -> Result<Work<'_>, Error> {
        let collective = Collective::AllGather;
        let whole = self.flat(collective, "the output", output)?;
        let part = self.flat(collective, "the input", input)?;
        self.check_parts(collective, &whole, &part)?;
        let call = PlannedCall::of_tensors(collective, whole.kind(), whole.numel());
        let Some(turn) = self.turn()? else { return copy(whole, &part) };
        turn.announce(&call, &[])?;
        if whole.numel() == 0 {
            return Ok(Work::done());
        }
        let work = turn.on_tensors(|group| group.all_gather(&whole, &part))?;
        Ok(Work::started(turn.group(), work))
    }

    /// Replaces a tensor by that of the rank `root`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a tensor that does not fit, and for a rank that does not exist;
    /// otherwise as [`Work::wait`].
    pub fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), Error> {
        self.start_broadcast(tensor, root)?.wait()
    }

    /// Starts [`Self::broadcast`].
    ///
    /// # Errors
    /// As [`Self::broadcast`].
    pub fn start_broadcast<'a>(
        &'a self,
        tensor: &'a mut Tensor,
        root: usize,
    ) -> Result<Work<'a>, Error> {
        let collective = Collective::Broadcast;
        let flat = self.flat(collective, "the tensor", tensor)?;
        let size = self.world().size;
        if root >= size {
            let wanted = format!("a rank below {size}");
            return Err(refused(collective, "the root", root.to_string(), wanted));
        }
        let call = PlannedCall::of_tensors(collective, flat.kind(), flat.numel()).with_root(root);
        let Some(turn) = self.turn()? else { return Ok(Work::done()) };
        turn.announce(&call, &[])?;
        if flat.numel() == 0 {
            return Ok(Work::done());
        }
        let work = turn.on_tensors(|group| group.broadcast(&flat, root))?;
        Ok(Work::started(turn.group(), work))
    }

    /// The tensor's memory as a flat tensor: a view, outside of autograd.
    fn flat(
        &self,
        collective: Collective,
        what: &'static str,
        tensor: &Tensor,
    ) -> Result<Tensor, Error> {
        let refuse = |seen: String, wanted: String| Err(refused(collective, what, seen, wanted));
        let kind = tensor.kind();
        if !FORMATS.iter().any(|(format, _)| *format == kind) {
            let formats = FORMATS.map(|(_, name)| name).join(", ");
            return refuse(format!("a tensor of {kind:?}"), format!("one of {formats}"));
        }
        if tensor.device() != self.device() {
            let wanted = format!("on {:?}", self.device());
            return refuse(format!("on {:?}", tensor.device()), wanted);
        }
        if !tensor.is_contiguous() {
            let (shape, strides) = (tensor.size(), tensor.stride());
            let seen = format!("of shape {shape:?} and strides {strides:?}");
            return refuse(seen, "contiguous".to_owned());
        }
        Ok(tensor.f_detach()?.f_view([-1])?)
    }

    /// Checks that a whole has N times the values of a part, and that the part is this rank's where
    /// both share memory.
    fn check_parts(
        &self,
        collective: Collective,
        whole: &Tensor,
        part: &Tensor,
    ) -> Result<(), Error> {
        let (rank, size) = (self.world().rank, self.world().size);
        let (n_whole, n_part) = (whole.numel(), part.numel());
        if n_whole != n_part * size || whole.kind() != part.kind() {
            let told = |tensor: &Tensor| format!("{} {}", tensor.numel(), format_of(tensor.kind()));
            let seen = format!("{} beside {} of the whole", told(part), told(whole));
            let wanted = format!("the whole's number format and 1/{size} of its values");
            return Err(refused(collective, "a rank's part", seen, wanted));
        }
        let n_bytes = part.kind().elt_size_in_bytes() * n_part;
        let (start, at) = (whole.data_ptr().addr(), part.data_ptr().addr());
        let is_apart = at + n_bytes <= start || start + n_bytes * size <= at;
        if n_bytes == 0 || is_apart || at == start + n_bytes * rank {
            return Ok(());
        }
        let seen = "other memory of the whole".to_owned();
        let wanted = format!("memory of its own, or part {rank} of the whole");
        Err(refused(collective, "a rank's part", seen, wanted))
    }
}

fn format_of(kind: Kind) -> &'static str {
    FORMATS.iter().find(|(format, _)| *format == kind).map_or("values", |(_, name)| name)
}

fn refused(collective: Collective, what: &'static str, seen: String, wanted: String) -> Error {
    Error::Refused { call: collective.name(), what, seen, wanted }
}

/// What a collective of a whole and a part is for one rank.
fn copy<'a>(mut to: Tensor, from: &Tensor) -> Result<Work<'a>, Error> {
    if to.data_ptr() != from.data_ptr() {
        to.f_copy_(from)?;
    }
    Ok(Work::done())
}
