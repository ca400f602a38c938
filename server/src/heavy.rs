//! Work that keeps a processor busy: reading, hashing and writing large texts. It runs beside the
//! threads that answer requests, on as many processors as there are, so that a probe never waits
//! for it. Work inside of other work needs no processor of its own.
//!
//! Knows nothing of the work.

use std::cell::Cell;
use std::num::NonZero;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Size of a text below which the work on it takes less time than moving it would.
const LIGHT_BYTES: usize = 64 << 10;

/// Admits as many threads at once as there are processors.
struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One thread's place; given back when it is dropped, also after a panic.
struct GatePass<'a>(&'a Gate);

thread_local! {
    /// Whether this thread has a pass: it would wait for a second one in vain, while every other
    /// thread with a pass does the same.
    static HAS_PASS: Cell<bool> = const { Cell::new(false) };
}

impl Gate {
    fn enter(&self) -> GatePass<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.freed.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        HAS_PASS.set(true);
        GatePass(self)
    }
}

impl Drop for GatePass<'_> {
    fn drop(&mut self) {
        HAS_PASS.set(false);
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

fn gate() -> &'static Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    GATE.get_or_init(|| {
        let n_processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Gate { free: Mutex::new(n_processors), freed: Condvar::new() }
    })
}

/// Does some work on `n_bytes` of text. Other requests are answered by other threads meanwhile;
/// without such threads (a runtime of one thread), or inside of other work, it is done in place.
pub(crate) fn work_on<T>(n_bytes: usize, work: impl FnOnce() -> T) -> T {
    let is_multi = |handle: Handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread;
    let is_light = n_bytes < LIGHT_BYTES || HAS_PASS.get();
    if is_light || !Handle::try_current().is_ok_and(is_multi) {
        return work();
    }
    tokio::task::block_in_place(|| {
        let _pass = gate().enter();
        work()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier, mpsc};
    use std::time::Duration;

    use super::*;

    #[test]
    fn heavy_work_inside_of_heavy_work_on_all_processors_waits_for_nothing() {
        let n = std::thread::available_parallelism().map_or(1, NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        // each has a pass before the first asks for another one
        let all_have_one = Arc::new(Barrier::new(n));
        let work: Vec<_> = (0..n)
            .map(|_| {
                let all_have_one = Arc::clone(&all_have_one);
                runtime.spawn(async move {
                    work_on(1 << 20, || {
                        all_have_one.wait();
                        work_on(1 << 20, || work_on(1 << 20, || 1))
                    })
                })
            })
            .collect();
        let ended = runtime.block_on(async {
            let all = async {
                let mut n_ended = 0;
                for task in work {
                    n_ended += task.await.unwrap();
                }
                n_ended
            };
            tokio::time::timeout(Duration::from_secs(60), all).await
        });
        // also where threads wait for ever
        runtime.shutdown_background();
        assert_eq!(ended, Ok(n));
        assert!(!HAS_PASS.get());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn heavy_work_on_all_threads_leaves_others_running() {
        let (release, released) = mpsc::channel::<()>();
        let (released, n_heavy) = (std::sync::Arc::new(Mutex::new(released)), 8);
        let heavy: Vec<_> = (0..n_heavy)
            .map(|_| {
                let released = std::sync::Arc::clone(&released);
                tokio::spawn(async move {
                    work_on(1 << 20, || released.lock().unwrap().recv().unwrap());
                })
            })
            .collect();
        // answered though all heavy tasks are stuck
        for _ in 0..10 {
            tokio::spawn(async { work_on(10, || ()) }).await.unwrap();
        }
        assert!(heavy.iter().any(|task| !task.is_finished()));
        (0..n_heavy).for_each(|_| release.send(()).unwrap());
        for task in heavy {
            task.await.unwrap();
        }
    }
}
