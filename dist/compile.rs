//! Build script: compiles `c10d/shim.cpp` against libtorch's headers, with the flags of torch-sys.
//!
//! What it makes needs no library of its own: torch-sys links libtorch already.

#![expect(clippy::print_stdout, reason = "a build script speaks to cargo by printing")]

use std::path::PathBuf;

#[path = "../engine/libtorch.rs"]
mod libtorch;

fn main() {
    libtorch::main();
    for path in ["compile.rs", "c10d"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let root = std::env::var_os("LIBTORCH").map(PathBuf::from);
    let root = root.expect("LIBTORCH is not set, wanted the folder of libtorch 2.11.0: make setup");
    let root = root.canonicalize().unwrap_or(root);
    cc::Build::new()
        .cpp(true)
        .pic(true)
        .std("c++17")
        .warnings(false) // libtorch's headers have some
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .include("c10d/stand_in")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .file("c10d/shim.cpp")
        .compile("joust_c10d");
}
