//! CUDA's run-time compiler, which needs no GPU. It knows nothing of the kernels.

use std::ffi::CString;
use std::path::PathBuf;
use std::sync::OnceLock;

use cudarc::nvrtc::{result, sys};

/// Folder of the compiler's libraries beside a libtorch from PyPI.
const BESIDE_TORCH: &str = "nvidia/cu13/lib";

/// Whether the compiler can be loaded. Loads it.
pub(crate) fn is_present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(|| {
        let torch = super::libtorch_path();
        let packages = torch.and_then(|path| Some(path.parent()?.parent()?.parent()?.to_owned()));
        let beside = packages.map(|packages| packages.join(BESIDE_TORCH));
        // the compiler opens its second library by name, which finds an already loaded library
        for library in ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"] {
            let path = beside.clone().unwrap_or_default().join(library);
            if !super::open_library_at(&path) {
                super::open_library_at(&PathBuf::from(library));
            }
        }
        // SAFETY: loads a library and runs its initialisers.
        unsafe { sys::is_culib_present() }
    })
}

/// Compiles CUDA C++ to machine code for `architecture`, for example `sm_90a`; `defines` are macros
/// with their values.
///
/// # Errors
/// The compiler's messages where it refuses the source, or one line where the compiler is missing.
pub(crate) fn compile(
    source: &str,
    architecture: &str,
    defines: &[(&str, String)],
) -> Result<Vec<u8>, String> {
    if !is_present() {
        return Err("CUDA's run-time compiler (libnvrtc.so.13) does not load".to_owned());
    }
    let source = CString::new(source).map_err(|_| "the source holds a zero byte".to_owned())?;
    let mut options = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()];
    options.extend(defines.iter().map(|(name, value)| format!("-D{name}={value}")));
    let program = result::create_program(&source, None).map_err(|error| format!("{error:?}"))?;
    // SAFETY: `program` was created above and is destroyed once, below; the buffer has the size
    // that the compiler reports.
    unsafe {
        let compiled = result::compile_program(program, &options);
        let code = match compiled {
            Ok(()) => machine_code(program),
            Err(error) => {
                let log = result::get_program_log(program).unwrap_or_default();
                let log: Vec<u8> = log.iter().map(|&byte| byte as u8).filter(|&b| b != 0).collect();
                Err(format!("{error:?}: {}", String::from_utf8_lossy(&log).trim()))
            }
        };
        // a failure to destroy it has no consequence
        let _ = result::destroy_program(program);
        code
    }
}

/// Machine code of a compiled program.
///
/// # Safety
/// `program` has been compiled.
unsafe fn machine_code(program: sys::nvrtcProgram) -> Result<Vec<u8>, String> {
    let mut size = 0;
    // SAFETY: the caller has compiled the program; the buffer has the reported size.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &raw mut size).result().map_err(|e| format!("{e:?}"))?;
        let mut code = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast())
            .result()
            .map_err(|e| format!("{e:?}"))?;
        Ok(code)
    }
}
