//! The GPU: memory, streams, kernels and graphs, by CUDA's driver and by the C functions of
//! libtorch's CUDA library.
//!
//! Both work on the same context, libtorch's. Tensors must have been made on the device before.

use std::ffi::{CStr, CString, c_void};
use std::sync::OnceLock;

use cudarc::driver::result::{ctx, device, graph, launch_kernel, module, primary_ctx, stream};
use cudarc::driver::{DriverError, sys};
use tch::Tensor;

use crate::error::Error;

fn failed(what: &str) -> impl Fn(DriverError) -> Error + '_ {
    move |error| Error::Device(format!("{what}: {error:?}"))
}

/// Makes libtorch's context current on this thread.
///
/// # Errors
/// [`Error::Device`] where there is no driver or no GPU.
pub(crate) fn enter() -> Result<(), Error> {
    static CONTEXT: OnceLock<Result<usize, String>> = OnceLock::new();
    let context = CONTEXT.get_or_init(|| {
        if !super::has_cuda_driver() {
            return Err("there is none".to_owned());
        }
        let retained = || -> Result<usize, DriverError> {
            cudarc::driver::result::init()?;
            // SAFETY: the device was just asked for; the context is kept for the life of the
            // process.
            Ok(unsafe { primary_ctx::retain(device::get(0)?)? } as usize)
        };
        retained().map_err(|error| format!("{error:?}"))
    });
    let context = match context {
        Ok(context) => context,
        Err(reason) => return Err(Error::Device(format!("CUDA's driver finds no GPU: {reason}"))),
    };
    // SAFETY: the context is the device's primary one, which was retained above.
    unsafe { ctx::set_current(*context as sys::CUcontext) }.map_err(failed("setting the context"))
}

/// Free and whole memory of the GPU, in bytes.
///
/// # Errors
/// As [`enter`].
pub(crate) fn memory() -> Result<(usize, usize), Error> {
    enter()?;
    cudarc::driver::result::mem_get_info().map_err(failed("asking for the GPU's memory"))
}

/// The GPU's name and compute capability, (9, 0) for Hopper.
///
/// # Errors
/// As [`enter`].
pub(crate) fn capability() -> Result<(String, (i32, i32)), Error> {
    enter()?;
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let asked = || -> Result<(String, (i32, i32)), DriverError> {
        let gpu = device::get(0)?;
        // SAFETY: the device is valid.
        let number = |attribute| unsafe { device::get_attribute(gpu, attribute) };
        Ok((device::get_name(gpu)?, (number(MAJOR)?, number(MINOR)?)))
    };
    asked().map_err(failed("asking for the GPU"))
}

/// One argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KernelArg {
    Pointer(*mut c_void),
    I32(i32),
    I64(i64),
    F32(f32),
}

impl KernelArg {
    /// The address of a tensor's first value.
    pub(crate) fn tensor(tensor: &Tensor) -> Self {
        Self::Pointer(tensor.data_ptr())
    }

    /// An address that the kernel does not look at.
    pub(crate) const NULL: Self = Self::Pointer(std::ptr::null_mut());

    /// Where the value lies, as launches want it.
    pub(crate) fn address(&self) -> *mut c_void {
        match self {
            Self::Pointer(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::I32(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::I64(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::F32(value) => std::ptr::from_ref(value).cast_mut().cast(),
        }
    }
}

/// How many blocks of how many threads run a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaunchShape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared: u32,
}

/// A kernel on the GPU, loaded for the life of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function(sys::CUfunction);

// SAFETY: a handle of the driver, which is used from any thread whose context is current.
unsafe impl Send for Function {}

/// Loads machine code and finds `names` in it.
///
/// # Errors
/// [`Error::Device`] where the code is not for this GPU, or lacks one of the names.
pub(crate) fn load(code: &[u8], names: &[&str]) -> Result<Vec<Function>, Error> {
    enter()?;
    // SAFETY: `code` is what the compiler made; the module is never unloaded.
    let loaded =
        unsafe { module::load_data(code.as_ptr().cast()) }.map_err(failed("loading kernels"))?;
    let find = |name: &&str| {
        let c_name = CString::new(*name).expect("a kernel's name has no zero byte. This is a bug.");
        // SAFETY: the module is loaded.
        let function = unsafe { module::get_function(loaded, c_name) };
        function.map(Function).map_err(failed(name))
    };
    names.iter().map(find).collect()
}

/// Runs a kernel on `stream`. The caller has checked that the arguments are those that the kernel
/// wants, and that the tensors are as large as it takes them to be.
///
/// # Errors
/// [`Error::Device`]
pub(crate) fn launch(
    function: Function,
    shape: LaunchShape,
    stream: &CudaStream,
    args: &[KernelArg],
) -> Result<(), Error> {
    let mut addresses: Vec<*mut c_void> = args.iter().map(KernelArg::address).collect();
    let [x, y, z] = shape.grid;
    // SAFETY: the function is loaded; the addresses live until the call returns, which copies what
    // they point to; the tensors live as long as the work on the stream, because they are freed in
    // the stream's order or not before it has ended.
    unsafe {
        launch_kernel(
            function.0,
            (x, y, z),
            (shape.block, 1, 1),
            shape.shared,
            stream.0.cast(),
            &mut addresses,
        )
    }
    .map_err(failed("starting a kernel"))
}

/// A queue of work on the GPU, of libtorch's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CudaStream(*mut c_void);

// SAFETY: a handle of the driver; streams may be used from any thread.
unsafe impl Send for CudaStream {}

type FromPool = unsafe extern "C" fn(bool, i32, *mut *mut c_void) -> i32;
type SetCurrent = unsafe extern "C" fn(*mut c_void, i32) -> i32;
type GetCurrent = unsafe extern "C" fn(i32, *mut *mut c_void) -> i32;

/// A C function of libtorch's CUDA library.
fn symbol(name: &'static CStr) -> Result<*mut c_void, Error> {
    super::load_libtorch_cuda();
    // SAFETY: a lookup by name in the libraries that are loaded.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    match symbol.is_null() {
        true => Err(Error::Device(format!("libtorch has no function {name:?}; wanted 2.11"))),
        false => Ok(symbol),
    }
}

/// As [`symbol`], looked up once: some are called several times a layer.
macro_rules! symbol_once {
    ($name:literal) => {{
        static FOUND: OnceLock<usize> = OnceLock::new();
        match FOUND.get() {
            Some(&found) => found as *mut c_void,
            None => {
                let found = symbol($name)?;
                *FOUND.get_or_init(|| found as usize) as *mut c_void
            }
        }
    }};
}

fn check(what: &str, code: i32) -> Result<(), Error> {
    match code {
        0 => Ok(()),
        _ => Err(Error::Device(format!("libtorch failed at {what}"))),
    }
}

impl CudaStream {
    /// A stream of libtorch's pool.
    ///
    /// # Errors
    /// [`Error::Device`]
    pub(crate) fn from_pool() -> Result<Self, Error> {
        let mut found = std::ptr::null_mut();
        // SAFETY: the signature is that of torch/csrc/stable/c/shim.h in 2.11.
        let code = unsafe {
            let function: FromPool =
                std::mem::transmute(symbol_once!(c"torch_get_cuda_stream_from_pool"));
            function(false, 0, &raw mut found)
        };
        check("taking a stream", code)?;
        Ok(Self(found))
    }

    /// The stream that libtorch's operations on this thread go to.
    ///
    /// # Errors
    /// [`Error::Device`]
    pub(crate) fn current() -> Result<Self, Error> {
        let mut found = std::ptr::null_mut();
        // SAFETY: the signature is that of torch/csrc/inductor/aoti_torch/c/shim.h in 2.11.
        let code = unsafe {
            let function: GetCurrent =
                std::mem::transmute(symbol_once!(c"aoti_torch_get_current_cuda_stream"));
            function(0, &raw mut found)
        };
        check("asking for the current stream", code)?;
        Ok(Self(found))
    }

    /// Sends libtorch's operations on this thread to this stream until the guard is dropped.
    ///
    /// # Errors
    /// [`Error::Device`]
    pub(crate) fn enter(&self) -> Result<StreamGuard, Error> {
        let before = Self::current()?;
        self.make_current()?;
        Ok(StreamGuard { before })
    }

    fn make_current(&self) -> Result<(), Error> {
        // SAFETY: the signature is that of torch/csrc/stable/c/shim.h in 2.11; the stream is of
        // libtorch's pool, or its default one.
        let code = unsafe {
            let function: SetCurrent =
                std::mem::transmute(symbol_once!(c"torch_set_current_cuda_stream"));
            function(self.0, 0)
        };
        check("changing the stream", code)
    }

    /// Waits until all work on it is done.
    ///
    /// # Errors
    /// [`Error::Device`], also of work that was started before.
    pub(crate) fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the stream is valid.
        unsafe { stream::synchronize(self.0.cast()) }.map_err(failed("waiting for the GPU"))
    }
}

/// See [`CudaStream::enter`].
pub(crate) struct StreamGuard {
    before: CudaStream,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        // a stream that was current before can be so again
        let _ = self.before.make_current();
    }
}

/// A stream that records, and what it recorded: both end with it, also where the work panics.
struct Recording {
    stream: Option<sys::CUstream>,
    graph: Option<sys::CUgraph>,
}

impl Recording {
    fn end(&mut self) -> Result<sys::CUgraph, DriverError> {
        let stream = self.stream.take().expect("a recording ends once. This is a bug.");
        // SAFETY: the stream captures since this was made.
        let graph = unsafe { stream::end_capture(stream)? };
        self.graph = Some(graph);
        Ok(graph)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.stream.is_some() {
            let _ = self.end();
        }
        if let Some(graph) = self.graph {
            // SAFETY: the graph is destroyed once.
            let _ = unsafe { graph::destroy(graph) };
        }
    }
}

/// Work on the GPU that was recorded once and is started as a whole.
#[derive(Debug)]
pub(crate) struct Graph(sys::CUgraphExec);

// SAFETY: a handle of the driver; started from one thread at a time by its owner.
unsafe impl Send for Graph {}

impl Graph {
    /// Records what `work` sends to `stream`. Nothing of it runs, and it may not allocate.
    ///
    /// # Errors
    /// What `work` returns; [`Error::Device`] where something cannot be recorded.
    pub(crate) fn capture(
        on: &CudaStream,
        work: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let raw = on.0.cast();
        // other threads may allocate meanwhile
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is valid and captures nothing yet.
        unsafe { stream::begin_capture(raw, mode) }.map_err(failed("starting to record"))?;
        let mut recording = Recording { stream: Some(raw), graph: None };
        work()?;
        let recorded = recording.end().map_err(failed("recording"))?;
        // SAFETY: the graph was just recorded; the executable one does not need it.
        let made = unsafe { graph::instantiate(recorded, sys::CUgraphInstantiate_flags(0)) };
        made.map(Self).map_err(failed("making a graph"))
    }

    /// Starts the recorded work on `stream`.
    ///
    /// # Errors
    /// [`Error::Device`]
    pub(crate) fn launch(&self, on: &CudaStream) -> Result<(), Error> {
        // SAFETY: the graph is valid; the tensors that it was recorded with are kept by its owner.
        unsafe { graph::launch(self.0, on.0.cast()) }.map_err(failed("starting a graph"))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the handle is dropped once; the driver waits for work that is running.
        let _ = unsafe { graph::exec_destroy(self.0) };
    }
}

type GraphHandle = *mut c_void;
type Flash = unsafe extern "C" fn(
    GraphHandle,
    GraphHandle,
    GraphHandle,
    *mut GraphHandle,
    *mut GraphHandle,
    i64,
    i64,
    f64,
    i32,
    i32,
    *mut f64,
    *mut i64,
    *mut i64,
    *mut GraphHandle,
    *mut GraphHandle,
    *mut GraphHandle,
    *mut GraphHandle,
    *mut GraphHandle,
    *mut GraphHandle,
    *mut GraphHandle,
) -> i32;

/// Causal attention of sequences that lie one after the other (FlashAttention-2's variable-length
/// form, arXiv 2307.08691): the last query of a sequence sees all its keys.
///
/// # Shapes
/// `q` [M, Hq, D] bf16, `k` and `v` [T, Hkv, D]; `q_starts` and `k_starts` `[B + 1]` i32 on the
/// GPU, with the longest of each → [M, Hq, D].
///
/// # Errors
/// [`Error::Device`] where libtorch refuses.
pub(crate) fn flash_attention(
    [q, k, v]: [&Tensor; 3],
    [q_starts, k_starts]: [&Tensor; 2],
    [longest_q, longest_k]: [i64; 2],
) -> Result<Tensor, Error> {
    let handle = |tensor: &Tensor| tensor.as_ptr().cast_mut().cast::<c_void>();
    let (mut q_starts, mut k_starts) = (handle(q_starts), handle(k_starts));
    let mut outs = [std::ptr::null_mut(); 5];
    let [out, lse, rng, unused, debug] = &mut outs;
    let none = std::ptr::null_mut;
    // SAFETY: the signature is that of c_shim_cuda.h in 2.11; a tensor of tch is an at::Tensor*,
    // which is what the handles are. All arguments outlive the call.
    let code = unsafe {
        let function: Flash =
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
            none(),
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
    // SAFETY: the call gave five tensors away.
    let mut outs = outs.map(|out| unsafe { Tensor::from_ptr(out.cast()) });
    Ok(std::mem::replace(&mut outs[0], Tensor::new()))
}
