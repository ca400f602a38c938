//! Keys and values of all layers in blocks, in bf16 or in FP8 with one scale per token and head.

use tch::{Device, Kind, Tensor};

use crate::config::ModelConfig;
use crate::error::Error;
use crate::fp8::Quantized;
use crate::kv::BLOCK_TOKENS;

/// Number format of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KvKind {
    Bf16,
    Fp8,
}

impl KvKind {
    /// Bytes of keys and values per token, over all layers.
    pub(crate) fn bytes_per_token(self, config: &ModelConfig) -> usize {
        let per_head = match self {
            Self::Bf16 => 2 * config.head_dim,
            Self::Fp8 => config.head_dim + size_of::<f32>(),
        };
        2 * config.n_layers * config.n_kv_heads * per_head
    }

    pub(super) fn is_fp8(self) -> bool {
        self == Self::Fp8
    }
}

/// Keys and values of one layer.
#[derive(Debug)]
pub(super) struct LayerArena {
    /// [blocks, Hkv, BLOCK_TOKENS, D]
    pub(super) keys: Tensor,
    pub(super) values: Tensor,
    /// [blocks, Hkv, BLOCK_TOKENS] f32 of keys and of values; none for bf16.
    pub(super) scales: Option<[Tensor; 2]>,
}

impl LayerArena {
    fn new(
        config: &ModelConfig,
        n_blocks: usize,
        kind: KvKind,
        device: Device,
    ) -> Result<Self, Error> {
        let shape = [n_blocks, config.n_kv_heads, BLOCK_TOKENS, config.head_dim];
        let shape = shape.map(|dim| dim as i64);
        let numbers = if kind.is_fp8() { Kind::Float8e4m3fn } else { Kind::BFloat16 };
        let zeros = || Tensor::f_zeros(shape, (Kind::Uint8, device));
        let wide = || Tensor::f_zeros(shape, (numbers, device));
        let scales = || Tensor::f_zeros(&shape[..3], (Kind::Float, device));
        Ok(match kind {
            KvKind::Bf16 => Self { keys: wide()?, values: wide()?, scales: None },
            KvKind::Fp8 => Self {
                keys: zeros()?.f_view_dtype(numbers)?,
                values: zeros()?.f_view_dtype(numbers)?,
                scales: Some([scales()?, scales()?]),
            },
        })
    }

    /// Keys and values of T slots, converted to `kind`: `blocks` and `offsets` `[T]` → [T, Hkv, D]
    /// each.
    pub(super) fn gather(
        &self,
        blocks: &Tensor,
        offsets: &Tensor,
        kind: Kind,
    ) -> Result<[Tensor; 2], Error> {
        let index = [Some(blocks), None, Some(offsets)];
        let one = |arena: &Tensor, which: usize| -> Result<Tensor, Error> {
            let Some(scales) = &self.scales else {
                return Ok(arena.f_index(&index)?.f_to_kind(kind)?); // [T, Hkv, D]
            };
            let bytes = arena.f_view_dtype(Kind::Uint8)?.f_index(&index)?;
            let size = bytes.size();
            let (n_heads, head_dim) = (size[0] * size[1], size[2]);
            let quantized = Quantized {
                values: bytes.f_view_dtype(Kind::Float8e4m3fn)?.f_view([n_heads, head_dim])?,
                scale: scales[which].f_index(&index)?.f_view([n_heads, 1])?,
                block: [1, head_dim as usize],
            };
            Ok(quantized.dequantize(kind)?.f_view(&size[..])?)
        };
        Ok([one(&self.keys, 0)?, one(&self.values, 1)?])
    }
}

/// Keys and values of all layers.
pub(super) fn allocate(
    config: &ModelConfig,
    n_blocks: usize,
    kind: KvKind,
    device: Device,
) -> Result<Vec<LayerArena>, Error> {
    (0..config.n_layers).map(|_| LayerArena::new(config, n_blocks, kind, device)).collect()
}
