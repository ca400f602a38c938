//! The kernels' source and what it is compiled with.

use super::arena::KvKind;
use super::ops::Heads;
use crate::error::Error;

const COMMON: &str = include_str!("../../kernels/common.cuh");
const ATTENTION: &str = include_str!("../../kernels/attention.cuh");

/// One file of kernels.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Its name, for messages.
    pub(super) name: &'static str,
    /// What it has in common with some others.
    pub(super) header: &'static str,
    /// Its own text, without what files have in common.
    pub(super) text: &'static str,
    /// Its kernels.
    pub(super) kernels: &'static [&'static str],
    /// Macros with their values.
    pub(super) defines: Vec<(&'static str, String)>,
}

impl File {
    /// The whole text.
    pub(super) fn source(&self) -> String {
        format!("{COMMON}\n{}\n{}", self.header, self.text)
    }
}

/// All files, for one model's shapes.
///
/// # Errors
/// [`Error::Unsupported`] for heads that the kernels are not written for.
pub(super) fn files(heads: &Heads, kv: KvKind) -> Result<Vec<File>, Error> {
    let groups = heads.n_heads / heads.n_kv_heads;
    let is_known = heads.head_dim.count_ones() == 1 && (16..=256).contains(&heads.head_dim);
    if !is_known || !(1..=16).contains(&groups) {
        return Err(Error::Unsupported {
            what: format!(
                "the GPU kernels with head_dim {} and {groups} query heads a key/value head (wanted a power of two in 16..=256 and at most 16); set gpu_kernels = false",
                heads.head_dim
            ),
        });
    }
    let head_dim = ("HEAD_DIM", heads.head_dim.to_string());
    let kv_fp8 = ("KV_FP8", u8::from(kv.is_fp8()).to_string());
    let file = |name, text, kernels, defines: &[(&'static str, String)]| File {
        name,
        header: "",
        text,
        kernels,
        defines: defines.to_vec(),
    };
    let few = [
        ("1", &["few_product_1"] as &'static [&'static str]),
        ("2", &["few_product_2"]),
        ("4", &["few_product_4"]),
        ("8", &["few_product_8"]),
    ];
    let few = few.map(|(n_tiles, kernels)| {
        let defines = [("N_TILES", n_tiles.to_owned()), ("FEW_PRODUCT", kernels[0].to_owned())];
        file("few.cu", include_str!("../../kernels/few.cu"), kernels, &defines)
    });
    let of_heads = [head_dim.clone(), kv_fp8.clone(), ("GROUPS", groups.to_string())];
    let mut files = few.to_vec();
    files.extend([
        file("quantize.cu", include_str!("../../kernels/quantize.cu"), &["quantize_rows"], &[]),
        file(
            "norm.cu",
            include_str!("../../kernels/norm.cu"),
            &["add_norm", "add_norm_quantize"],
            &[],
        ),
        file("gate.cu", include_str!("../../kernels/gate.cu"), &["gate", "gate_quantize"], &[]),
        file(
            "rope.cu",
            include_str!("../../kernels/rope.cu"),
            &["rope_append"],
            &[head_dim.clone(), kv_fp8.clone()],
        ),
        file(
            "gather.cu",
            include_str!("../../kernels/gather.cu"),
            &["gather"],
            &[head_dim, kv_fp8],
        ),
        File {
            header: ATTENTION,
            ..file(
                "attention.cu",
                include_str!("../../kernels/attention.cu"),
                &["attend", "merge", "merge_quantize"],
                &of_heads,
            )
        },
        File {
            header: ATTENTION,
            ..file(
                "shared.cu",
                include_str!("../../kernels/shared.cu"),
                &["attend_shared"],
                &of_heads,
            )
        },
        file("sample.cu", include_str!("../../kernels/sample.cu"), &["sample"], &[]),
    ]);
    Ok(files)
}
