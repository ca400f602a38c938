//! Vector instructions, chosen when the program runs.

mod bf16;

use std::sync::OnceLock;

pub(crate) use bf16::{RUN, few, linear, products, run_units, weigh};

/// Tokens of a block of keys: one vector register of f32.
pub(crate) const LANES: usize = 16;

/// Whether the processor multiplies bf16 vectors.
pub(crate) fn has_bf16() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        return is_x86_feature_detected!("avx512bf16") && has_avx512();
        #[cfg(not(target_arch = "x86_64"))]
        false
    })
}

/// Whether the processor has a matrix unit for bf16.
pub(crate) fn has_amx_bf16() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains("amx_bf16"))
    })
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && has_avx2()
}

/// Defines a function that is compiled several times, for the widest vectors that processors have,
/// and chosen among when it is called. The compiler vectorises the plain loops of its body and of
/// what that inlines.
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

/// Asks for memory that is needed soon.
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
