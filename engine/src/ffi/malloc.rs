//! The process's memory: what is not needed for a while goes back to the system. Whoever uses it
//! next pays for the pages again.

use std::ffi::c_int;

/// Number of bytes of a model whose memory is worth its pages: a smaller one spends more time on
/// them.
pub(crate) const LARGE: usize = 128 << 20;

/// Gives the free memory back that the C library keeps.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> c_int;
        }
        // SAFETY: glibc's malloc_trim takes any number and may be called at any time from any
        // thread.
        unsafe {
            malloc_trim(0);
        }
    }
}

/// A number that is its default, 0, where all of its bytes are 0.
pub(crate) trait ZeroBytes: Copy + Default {}

impl ZeroBytes for f32 {}
impl ZeroBytes for u32 {}

/// Sets values to 0 by giving their pages back, where whole pages begin with the first value.
pub(crate) fn discard<T: ZeroBytes>(values: &mut [T]) {
    const PAGE: usize = 4_096;
    // elsewhere, pages that are given back may keep their values
    const IS_LINUX: bool = cfg!(target_os = "linux");
    let n_whole = size_of_val(values) / PAGE * PAGE;
    let is_aligned = (values.as_ptr() as usize).is_multiple_of(PAGE);
    // SAFETY: the range has whole pages of exclusively borrowed private memory, which read as
    // zeros afterwards; zero bytes are a value of T.
    let is_discarded = IS_LINUX
        && is_aligned
        && n_whole > 0
        && unsafe { libc::madvise(values.as_mut_ptr().cast(), n_whole, libc::MADV_DONTNEED) } == 0;
    let rest = if is_discarded { n_whole / size_of::<T>() } else { 0 };
    values[rest..].fill(T::default());
}

#[cfg(test)]
mod tests {
    use super::discard;

    #[test]
    fn discarded_values_are_zeros_also_where_no_page_begins() {
        let mut values = vec![1.5_f32; 20_000];
        discard(&mut values[7..9_000]);
        assert_eq!(values[..7], [1.5; 7]);
        assert!(values[7..9_000].iter().all(|value| *value == 0.0));
        assert!(values[9_000..].iter().all(|value| *value == 1.5));
        let start = values.as_ptr().align_offset(4_096);
        values.fill(2.5);
        discard(&mut values[start..start + 5_000]);
        assert!(values[start..start + 5_000].iter().all(|value| *value == 0.0));
        assert!(values[start + 5_000..].iter().all(|value| *value == 2.5));
    }
}
