//! The kernels' source files with their kernels and macros: a new kernel is listed here.

use super::arena::KvKind;
use super::kernel::Kernel;
use super::kernels;
use super::ops::Heads;
use super::tuning::SKINNY_GEMM_CHUNKS_AHEAD;
use crate::error::Error;

const PRELUDE: &str = include_str!("../../kernels/prelude.cuh");
const ATTENTION: &str = include_str!("../../kernels/attention.cuh");

/// What to do where the kernels lack something.
pub(super) const WITHOUT_KERNELS: &str = "set gpu_kernels = false";

/// One file of kernels, compiled as a whole.
#[derive(Clone, Debug)]
pub(super) struct KernelFile {
    /// File name, for error texts.
    pub(super) name: &'static str,
    /// Text between the prelude and the file's own text, shared with other files.
    pub(super) header: &'static str,
    /// Text of the file itself.
    pub(super) text: &'static str,
    /// Declarations of the file's kernels.
    pub(super) kernels: &'static [&'static Kernel],
    /// Macros and their values.
    pub(super) defines: Vec<(&'static str, String)>,
}

impl KernelFile {
    /// The complete text to compile.
    pub(super) fn source(&self) -> String {
        format!("{PRELUDE}\n{}\n{}", self.header, self.text)
    }
}

/// All files, for one model's shapes.
///
/// # Errors
/// [`Error::Unsupported`] for heads that the kernels are not written for.
pub(super) fn files(heads: &Heads, kv: KvKind) -> Result<Vec<KernelFile>, Error> {
    let groups = heads.n_heads / heads.n_kv_heads;
    let is_known = heads.head_dim.count_ones() == 1 && (16..=256).contains(&heads.head_dim);
    if !is_known || !(1..=16).contains(&groups) {
        return Err(Error::Unsupported {
            what: format!(
                "head_dim {} with {groups} query heads per key/value head on the GPU's kernels \
                 (wanted a power of two in 16..=256, and at most 16 heads)",
                heads.head_dim
            ),
            advice: Some(WITHOUT_KERNELS),
        });
    }
    let head_dim = ("HEAD_DIM", heads.head_dim.to_string());
    let kv_fp8 = ("KV_FP8", u8::from(kv.is_fp8()).to_string());
    let file = |name, text, kernels, defines: &[(&'static str, String)]| KernelFile {
        name,
        header: "",
        text,
        kernels,
        defines: defines.to_vec(),
    };
    let skinny: [(&str, &'static [&'static Kernel]); 4] = [
        ("1", &[&kernels::GEMM_W8A8_SKINNY_8]),
        ("2", &[&kernels::GEMM_W8A8_SKINNY_16]),
        ("4", &[&kernels::GEMM_W8A8_SKINNY_32]),
        ("8", &[&kernels::GEMM_W8A8_SKINNY_64]),
    ];
    let skinny = skinny.map(|(n_tiles, kernels)| {
        let defines = [
            ("N_TILES", n_tiles.to_owned()),
            ("CHUNKS_AHEAD", SKINNY_GEMM_CHUNKS_AHEAD.to_string()),
            ("SKINNY_GEMM", kernels[0].name.to_owned()),
        ];
        file("gemm_skinny.cu", include_str!("../../kernels/gemm_skinny.cu"), kernels, &defines)
    });
    let of_kv = [head_dim.clone(), kv_fp8.clone()];
    let of_heads = [head_dim, kv_fp8, ("GROUPS", groups.to_string())];
    let mut files = skinny.to_vec();
    files.extend([
        file(
            "quantize.cu",
            include_str!("../../kernels/quantize.cu"),
            &[&kernels::QUANTIZE_ROWS],
            &[],
        ),
        file(
            "norm.cu",
            include_str!("../../kernels/norm.cu"),
            &[&kernels::RMSNORM_RESIDUAL.plain, &kernels::RMSNORM_RESIDUAL.fp8],
            &[],
        ),
        file(
            "silu_mul.cu",
            include_str!("../../kernels/silu_mul.cu"),
            &[&kernels::SILU_MUL.plain, &kernels::SILU_MUL.fp8],
            &[],
        ),
        file("rope.cu", include_str!("../../kernels/rope.cu"), &[&kernels::ROPE_APPEND], &of_kv),
        file("gather.cu", include_str!("../../kernels/gather.cu"), &[&kernels::GATHER_KV], &of_kv),
        KernelFile {
            header: ATTENTION,
            ..file(
                "attention.cu",
                include_str!("../../kernels/attention.cu"),
                &[
                    &kernels::ATTEND_DECODE,
                    &kernels::MERGE_SPLITS.plain,
                    &kernels::MERGE_SPLITS.fp8,
                ],
                &of_heads,
            )
        },
        KernelFile {
            header: ATTENTION,
            ..file(
                "cascade.cu",
                include_str!("../../kernels/cascade.cu"),
                &[&kernels::ATTEND_CASCADE],
                &of_heads,
            )
        },
        file("sample.cu", include_str!("../../kernels/sample.cu"), &[&kernels::SAMPLE], &[]),
    ]);
    Ok(files)
}
