//! Parallel work on OpenMP's threads, which libtorch uses too: there is only one pool of threads.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, u32, u32);

/// OpenMP's entry to a parallel region; none where libtorch's OpenMP library is not libgomp.
fn gomp_parallel() -> Option<Parallel> {
    static FOUND: OnceLock<Option<Parallel>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // SAFETY: a lookup by name in the loaded libraries; the type is that of GCC's
        // libgomp ABI, `void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned)`.
        unsafe {
            let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
            (!symbol.is_null()).then(|| std::mem::transmute::<*mut c_void, Parallel>(symbol))
        }
    })
}

extern "C" fn enter<F: Fn() + Sync>(work: *mut c_void) {
    // SAFETY: `in_parallel` passes a pointer to an F that outlives the region. A panic in `work`
    // aborts the process, because it cannot unwind through C.
    let work = unsafe { &*work.cast::<F>() };
    work();
}

/// Runs `work` on `n_threads` threads, including the calling one, and waits for all of them.
fn in_parallel<F: Fn() + Sync>(n_threads: usize, work: &F) {
    match gomp_parallel() {
        Some(parallel) if n_threads > 1 => {
            let data = std::ptr::from_ref(work).cast_mut().cast::<c_void>();
            // SAFETY: `enter::<F>` only reads the F behind `data`, which lives until all threads
            // have returned.
            unsafe { parallel(enter::<F>, data, n_threads as u32, 0) };
        }
        _ => work(),
    }
}

/// Calls `work` with every item, on as many threads as libtorch uses, or on the calling thread
/// alone if `is_small`. Threads take the items in order.
pub(crate) fn for_each<T: Send>(items: Vec<T>, is_small: bool, work: impl Fn(T) + Sync) {
    for_each_with(items, is_small, || (), |(), item| work(item));
}

/// As [`for_each`], with memory that each thread sets up once for all its items.
pub(crate) fn for_each_with<T: Send, S>(
    items: Vec<T>,
    is_small: bool,
    set_up: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) + Sync,
) {
    let n_threads = (tch::get_num_threads().max(1) as usize).min(items.len());
    if is_small || n_threads < 2 {
        let mut memory = set_up();
        items.into_iter().for_each(|item| work(&mut memory, item));
        return;
    }
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    in_parallel(n_threads, &|| {
        let mut memory = set_up();
        while let Some(item) = next() {
            work(&mut memory, item);
        }
    });
}

/// A slice in parts of equal size; each part can be taken once, by any thread.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    size: usize,
    is_taken: Vec<AtomicBool>,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: each part is given out only once, as an exclusive reference.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Splits a slice into parts of `size`; a shorter rest belongs to no part.
    pub(crate) fn new(slice: &'a mut [T], size: usize) -> Self {
        let is_taken = (0..slice.len() / size).map(|_| AtomicBool::new(false)).collect();
        Self { start: slice.as_mut_ptr(), size, is_taken, slice: PhantomData }
    }

    /// Takes the part with this index.
    pub(crate) fn take(&self, idx: usize) -> &'a mut [T] {
        let was_taken = self.is_taken[idx].swap(true, Ordering::Relaxed);
        assert!(!was_taken, "each part is taken once. This is a bug.");
        // SAFETY: the part lies in the slice, which is borrowed for 'a; no other part overlaps it,
        // and no other reference to this part exists or will be made.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(idx * self.size), self.size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_by_several_threads() {
        let mut values = vec![0; 100];
        let parts = Parts::new(&mut values, 3);
        for_each((0..33).collect(), false, |at| parts.take(at).fill(at));
        assert!((0..99).all(|at| values[at] == at / 3) && values[99] == 0);
    }

    #[test]
    #[should_panic(expected = "taken once")]
    fn parts_take_panics_for_a_part_that_is_taken() {
        let mut values = [0; 4];
        let parts = Parts::new(&mut values, 2);
        parts.take(1);
        parts.take(1);
    }
}
