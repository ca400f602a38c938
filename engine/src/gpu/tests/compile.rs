//! Compilation of every kernel with CUDA's run-time compiler.

use crate::ffi::nvrtc;
use crate::gpu::arena::KvKind;
use crate::gpu::launch::{architecture, compile};
use crate::gpu::ops::Heads;
use crate::gpu::source;

#[test]
fn kernels_compile_with_nvrtc_for_every_capability() {
    let beside_torch = crate::ffi::libtorch_path().and_then(|path| Some(path.parent()?.to_owned()));
    let has_cuda = beside_torch.is_some_and(|dir| dir.join("libtorch_cuda.so").exists());
    if !has_cuda && !nvrtc::is_present() {
        crate::tests_not_run("the kernels' compilation: this libtorch comes without CUDA");
        return;
    }
    // RRM-32B, Qwen2.5-1.5B, and the shapes of these tests
    let shapes = [(40, 8, 128), (12, 2, 128), (4, 2, 16)];
    for (n_heads, n_kv_heads, head_dim) in shapes {
        for kv in [KvKind::Bf16, KvKind::Fp8] {
            let heads = Heads { n_heads, n_kv_heads, head_dim, scale: 1.0 };
            for file in source::files(&heads, kv).unwrap() {
                let code = compile(&file, &architecture((9, 0))).unwrap();
                assert!(code.starts_with(b"\x7fELF"), "{}", file.name);
            }
        }
    }
    let heads = Heads { n_heads: 40, n_kv_heads: 8, head_dim: 128, scale: 1.0 };
    for capability in [(8, 9), (10, 0), (12, 0)] {
        for file in source::files(&heads, KvKind::Fp8).unwrap() {
            compile(&file, &architecture(capability)).unwrap();
        }
    }
    let mut broken = source::files(&heads, KvKind::Bf16).unwrap().remove(0);
    broken.text = "this is no kernel";
    let error = compile(&broken, "sm_90a").unwrap_err().to_string();
    assert!(error.contains("gemm_skinny.cu") && error.contains("error"), "{error}");
    let odd = source::files(&Heads { head_dim: 80, ..heads }, KvKind::Bf16).unwrap_err();
    assert!(odd.to_string().contains("head_dim 80"), "{odd}");
}
