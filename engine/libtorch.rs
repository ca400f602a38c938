//! Build script of every crate whose binaries or tests load libtorch: it writes the library's
//! folder into them, so that they run with no environment variable set.

#![expect(clippy::print_stdout, reason = "a build script speaks to cargo by printing")]

pub(crate) fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=../engine/libtorch.rs");
    let Some(libtorch) = std::env::var_os("LIBTORCH") else {
        return;
    };
    let lib = std::path::Path::new(&libtorch).join("lib");
    let lib = lib.canonicalize().unwrap_or(lib);
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
