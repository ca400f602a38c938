//! Vector features of the processor that the program runs on. It computes nothing.

use std::sync::OnceLock;

/// Number of tokens per block of keys: f32 values per vector register.
pub(crate) const LANES: usize = 16;

/// Whether the processor has products of bf16 vectors (AVX512-BF16).
pub(crate) fn has_bf16() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        return is_x86_feature_detected!("avx512bf16") && has_avx512();
        #[cfg(not(target_arch = "x86_64"))]
        false
    })
}

/// Whether the processor has a matrix unit for bf16 (AMX).
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
