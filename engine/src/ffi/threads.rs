//! Work on OpenMP's threads, the same that libtorch computes on: one pool, no thread too many.

use std::ffi::c_void;
use std::sync::{Mutex, OnceLock};

type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, u32, u32);

/// OpenMP's entry to a parallel region, where the library that libtorch brought has one.
fn gomp_parallel() -> Option<Parallel> {
    static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: a lookup by name in the libraries that are loaded; the type is that of GCC's
        // libgomp ABI, `void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned)`.
        unsafe {
            let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
            (!symbol.is_null()).then(|| std::mem::transmute::<*mut c_void, Parallel>(symbol))
        }
    })
}

extern "C" fn enter<F: Fn() + Sync>(work: *mut c_void) {
    // SAFETY: `in_parallel` passes a pointer to an F that outlives the region. A panic in `work`
    // ends the process here: it cannot unwind through C.
    let work = unsafe { &*work.cast::<F>() };
    work();
}

/// Runs `work` on `n_threads` threads at once, this one among them, and waits for all.
fn in_parallel<F: Fn() + Sync>(n_threads: usize, work: &F) {
    match gomp_parallel() {
        Some(parallel) if n_threads > 1 => {
            let data = std::ptr::from_ref(work).cast_mut().cast::<c_void>();
            // SAFETY: `enter::<F>` takes what `data` points to, which lives until all threads are
            // back, and only reads it.
            unsafe { parallel(enter::<F>, data, n_threads as u32, 0) };
        }
        _ => work(),
    }
}

/// Calls `work` with every item, on as many threads as libtorch uses; on this one alone where
/// `is_small`. Items are handed out in order.
pub(crate) fn for_each<T: Send>(items: Vec<T>, is_small: bool, work: impl Fn(T) + Sync) {
    let n_threads = (tch::get_num_threads().max(1) as usize).min(items.len());
    if is_small || n_threads < 2 {
        items.into_iter().for_each(work);
        return;
    }
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    in_parallel(n_threads, &|| {
        while let Some(item) = next() {
            work(item);
        }
    });
}
