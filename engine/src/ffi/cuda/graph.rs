//! CUDA graphs: work that is recorded once and launched as a whole.

use cudarc::driver::result::{graph, stream};
use cudarc::driver::{DriverError, sys};

use super::context::failed;
use super::stream::CudaStream;
use crate::error::Error;

/// A stream in capture mode and the captured graph. Dropping it ends the capture and destroys the
/// graph, also where the recorded work panics.
struct Recording {
    stream: Option<sys::CUstream>,
    graph: Option<sys::CUgraph>,
}

impl Recording {
    fn end(&mut self) -> Result<sys::CUgraph, DriverError> {
        let stream = self.stream.take().expect("a recording ends once. This is a bug.");
        // SAFETY: the stream has been capturing since the recording was made.
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

/// Recorded work on the GPU, ready to be launched.
#[derive(Debug)]
pub(crate) struct CudaGraph(sys::CUgraphExec);

// SAFETY: a handle of the driver, which its owner launches from one thread at a time.
unsafe impl Send for CudaGraph {}

impl CudaGraph {
    /// Records the work that `work` sends to `on`, without running it. `work` must not allocate.
    ///
    /// # Errors
    /// The error of `work`; [`Error::Device`] where an operation cannot be recorded.
    pub(crate) fn capture(
        on: &CudaStream,
        work: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let raw = on.0.cast();
        // other threads may allocate during the capture
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is valid and captures nothing yet.
        unsafe { stream::begin_capture(raw, mode) }.map_err(failed("starting the capture"))?;
        let mut recording = Recording { stream: Some(raw), graph: None };
        work()?;
        let recorded = recording.end().map_err(failed("ending the capture"))?;
        // SAFETY: the graph was just recorded; the executable graph does not need it later.
        let made = unsafe { graph::instantiate(recorded, sys::CUgraphInstantiate_flags(0)) };
        made.map(Self).map_err(failed("instantiating a graph"))
    }

    /// Launches the recorded work on `on`.
    ///
    /// # Errors
    /// [`Error::Device`] where the driver refuses the launch.
    pub(crate) fn launch(&self, on: &CudaStream) -> Result<(), Error> {
        // SAFETY: the graph is valid; its owner keeps the tensors that it was recorded with.
        unsafe { graph::launch(self.0, on.0.cast()) }.map_err(failed("launching a graph"))
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: the handle is destroyed once; the driver waits for running work.
        let _ = unsafe { graph::exec_destroy(self.0) };
    }
}
