//! Process groups of c10d and their collectives. Shapes and formats are the caller's concern.

use std::ffi::{c_char, c_int, c_void};
use std::net::IpAddr;
use std::ptr::NonNull;
use std::time::Duration;

use tch::Tensor;

use super::call::{Words, c_number, c_string, checked, made, ms};
use super::store::{RawStore, Store};

/// The shim's handle of a process group.
#[repr(C)]
struct RawGroup {
    _private: [u8; 0],
}

/// The shim's handle of a collective that was started.
#[repr(C)]
struct RawWork {
    _private: [u8; 0],
}

/// `at::Tensor*`.
type RawTensor = *mut c_void;

unsafe extern "C" {
    #[cfg(test)]
    fn dist_nccl_constructor(of_options: c_int) -> *const c_char;
    fn dist_gloo(
        store: *mut RawStore,
        rank: c_int,
        size: c_int,
        address: *const c_char,
        timeout_ms: i64,
        out: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn dist_nccl(
        store: *mut RawStore,
        rank: c_int,
        size: c_int,
        timeout_ms: i64,
        out: *mut *mut RawGroup,
    ) -> *mut c_char;
    fn dist_set_timeout(group: *mut RawGroup, timeout_ms: i64) -> *mut c_char;
    fn dist_shutdown(group: *mut RawGroup) -> *mut c_char;
    fn dist_group_free(group: *mut RawGroup);
    fn dist_all_reduce_sum(
        group: *mut RawGroup,
        tensor: RawTensor,
        out: *mut *mut RawWork,
    ) -> *mut c_char;
    fn dist_reduce_scatter_sum(
        group: *mut RawGroup,
        output: RawTensor,
        input: RawTensor,
        out: *mut *mut RawWork,
    ) -> *mut c_char;
    fn dist_all_gather(
        group: *mut RawGroup,
        output: RawTensor,
        input: RawTensor,
        out: *mut *mut RawWork,
    ) -> *mut c_char;
    fn dist_broadcast(
        group: *mut RawGroup,
        tensor: RawTensor,
        root: c_int,
        out: *mut *mut RawWork,
    ) -> *mut c_char;
    fn dist_gather(
        group: *mut RawGroup,
        outputs: *const RawTensor,
        n: usize,
        input: RawTensor,
        out: *mut *mut RawWork,
    ) -> *mut c_char;
    fn dist_wait(work: *mut RawWork) -> *mut c_char;
    fn dist_work_free(work: *mut RawWork);
}

fn raw(tensor: &Tensor) -> RawTensor {
    tensor.as_ptr().cast_mut().cast()
}

/// Connections to all other ranks. Kept for the life of the process unless it is closed, because
/// the destructors wait for work that may never end.
pub(crate) struct ProcessGroup {
    raw: NonNull<RawGroup>,
    is_nccl: bool,
}

// SAFETY: a group belongs to no thread. Collectives are issued one at a time: `RankGroup` has a
// lock.
unsafe impl Send for ProcessGroup {}

/// A collective that was started. c10d holds references to its tensors until it has ended.
pub(crate) struct PendingWork(NonNull<RawWork>);

// SAFETY: work may be waited for on any thread; c10d locks it.
unsafe impl Send for PendingWork {}

impl ProcessGroup {
    /// A group of Gloo, whose tensors are in the CPU's memory. It listens at `address`, or where
    /// `GLOO_SOCKET_IFNAME` or the host's name say.
    pub(crate) fn gloo(
        store: &Store,
        rank: usize,
        size: usize,
        address: Option<IpAddr>,
        timeout: Duration,
    ) -> Result<Self, Words> {
        let (rank, size) = (c_number(rank)?, c_number(size)?);
        let address = address.map(|address| c_string(&address.to_string())).transpose()?;
        let address = address.as_ref().map_or(std::ptr::null(), |address| address.as_ptr());
        // SAFETY: the store and the C string live through the call; the group takes a reference of
        // its own to the store.
        let raw =
            made(|out| unsafe { dist_gloo(store.raw(), rank, size, address, ms(timeout), out) })?;
        Ok(Self { raw, is_nccl: false })
    }

    /// A group of NCCL, whose tensors are on a GPU. Needs libtorch_cuda to be loaded.
    pub(crate) fn nccl(
        store: &Store,
        rank: usize,
        size: usize,
        timeout: Duration,
    ) -> Result<Self, Words> {
        let (rank, size) = (c_number(rank)?, c_number(size)?);
        // SAFETY: as in `gloo`. The constructors' types are those of their mangled names, and the
        // memory that they are given is more than they need; see the shim.
        let raw = made(|out| unsafe { dist_nccl(store.raw(), rank, size, ms(timeout), out) })?;
        Ok(Self { raw, is_nccl: true })
    }

    /// Changes the time limit of collectives.
    pub(crate) fn set_timeout(&self, timeout: Duration) -> Result<(), Words> {
        // SAFETY: the group is never freed while it is borrowed.
        checked(unsafe { dist_set_timeout(self.raw.as_ptr(), ms(timeout)) })
    }

    /// Ends a group that has not failed and has no work under way.
    pub(crate) fn close(self) {
        if self.is_nccl {
            // The memory of NCCL's group is larger than its class, which a strict allocator would
            // notice when it is freed.
            // SAFETY: the group is live, and nobody uses it after this.
            let _ = checked(unsafe { dist_shutdown(self.raw.as_ptr()) });
        } else {
            // SAFETY: the handle was made by the shim, and is given back once.
            unsafe { dist_group_free(self.raw.as_ptr()) }
        }
    }

    /// Starts the sum of a tensor over all ranks, in place.
    pub(crate) fn all_reduce_sum(&self, tensor: &Tensor) -> Result<PendingWork, Words> {
        self.start(|group, out| {
            // SAFETY: group and tensor live through the call.
            unsafe { dist_all_reduce_sum(group, raw(tensor), out) }
        })
    }

    /// Starts the sum of `input` over all ranks, of which each keeps its part.
    pub(crate) fn reduce_scatter_sum(
        &self,
        output: &Tensor,
        input: &Tensor,
    ) -> Result<PendingWork, Words> {
        self.start(|group, out| {
            // SAFETY: group and tensors live through the call.
            unsafe { dist_reduce_scatter_sum(group, raw(output), raw(input), out) }
        })
    }

    /// Starts gathering the `input` of all ranks on all ranks.
    pub(crate) fn all_gather(&self, output: &Tensor, input: &Tensor) -> Result<PendingWork, Words> {
        self.start(|group, out| {
            // SAFETY: group and tensors live through the call.
            unsafe { dist_all_gather(group, raw(output), raw(input), out) }
        })
    }

    /// Starts copying a rank's tensor to all others.
    pub(crate) fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<PendingWork, Words> {
        let root = c_number(root)?;
        self.start(|group, out| {
            // SAFETY: group and tensor live through the call.
            unsafe { dist_broadcast(group, raw(tensor), root, out) }
        })
    }

    /// Starts gathering the `input` of all ranks on rank 0, into one tensor per rank; the other
    /// ranks have no `outputs`.
    pub(crate) fn gather(&self, outputs: &[Tensor], input: &Tensor) -> Result<PendingWork, Words> {
        let outputs: Vec<RawTensor> = outputs.iter().map(raw).collect();
        self.start(|group, out| {
            // SAFETY: group, tensors and the list of handles live through the call.
            unsafe { dist_gather(group, outputs.as_ptr(), outputs.len(), raw(input), out) }
        })
    }

    fn start(
        &self,
        call: impl FnOnce(*mut RawGroup, *mut *mut RawWork) -> *mut c_char,
    ) -> Result<PendingWork, Words> {
        made(|out| call(self.raw.as_ptr(), out)).map(PendingWork)
    }
}

impl PendingWork {
    /// Waits for the end: on the CPU of the collective, on a GPU of the current stream's turn.
    pub(crate) fn wait(self) -> Result<(), Words> {
        // SAFETY: the handle is live until it is dropped.
        checked(unsafe { dist_wait(self.0.as_ptr()) })
    }
}

impl Drop for PendingWork {
    fn drop(&mut self) {
        // SAFETY: the handle was made by the shim and is given back once. c10d keeps a reference
        // to work under way.
        unsafe { dist_work_free(self.0.as_ptr()) }
    }
}

/// Mangled names of NCCL's constructors in libtorch_cuda: of its options and of its group.
#[cfg(test)]
pub(crate) fn nccl_constructors() -> [&'static str; 2] {
    [1, 0].map(|of_options| {
        // SAFETY: the function returns one of two constants, which are C strings.
        let name = unsafe { std::ffi::CStr::from_ptr(dist_nccl_constructor(of_options)) };
        name.to_str().unwrap()
    })
}
