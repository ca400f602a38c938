//! Vector instructions, selected when the program runs. It knows nothing of models.

mod bf16;
mod features;

pub(crate) use bf16::{RUN, linear, max_gemv_rows, products, run_units, weigh};
pub(crate) use features::{LANES, has_amx_bf16, has_bf16};
#[cfg(target_arch = "x86_64")]
pub(crate) use features::{has_avx2, has_avx512};

/// Defines a function that is compiled several times, once per width of vectors. Each call runs the
/// widest version that the processor supports. The compiler vectorises the loops of the body and of
/// the functions that it inlines.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$generic:ident: $bound:path>)?
        ($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $out)? {
            #[inline(always)]
            fn plain $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,avx2")]
                fn avx512 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $out)? {
                    plain$(::<$generic>)?($($arg),*)
                }

                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$generic: $bound>)? ($($arg: $ty),*) $(-> $out)? {
                    plain$(::<$generic>)?($($arg),*)
                }

                if $crate::ffi::simd::has_avx512() {
                    // SAFETY: the features were found at run time.
                    return unsafe { avx512$(::<$generic>)?($($arg),*) };
                }
                if $crate::ffi::simd::has_avx2() {
                    // SAFETY: the features were found at run time.
                    return unsafe { avx2$(::<$generic>)?($($arg),*) };
                }
            }
            plain$(::<$generic>)?($($arg),*)
        }
    };
}
pub(crate) use vectorized;

/// Prefetches memory that is needed soon.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        let start = values.as_ptr().cast::<i8>();
        for offset in (0..size_of_val(values)).step_by(64) {
            // SAFETY: a prefetch reads nothing; the address lies in the slice.
            unsafe {
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(
                    start.add(offset),
                );
            }
        }
    }
}
