//! How a kernel is declared: its name, its parameters with number formats and shapes, and the
//! blocks and threads that run it. From the declaration come the checks of a call, the argument
//! list, and the C++ signature that the emulator holds against the kernel's own. It knows no
//! kernel.

use tch::{Kind, Tensor};

use crate::ffi::cuda::kernel::{KernelArg, LaunchShape};

/// A size that the declarations refer to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    /// Rows of the output: tokens, or decoding sequences.
    Rows,
    /// Values per row that a kernel reads or writes.
    Width,
    /// Output channels of a product.
    Outputs,
    /// Tokens of the vocabulary.
    Vocab,
    /// Query heads.
    Heads,
    /// Key/value heads.
    KvHeads,
    /// Values per head.
    HeadSize,
    /// Query heads times head size.
    QWidth,
    /// Values of a token's queries, keys and values.
    QkvWidth,
    /// Blocks of key/value memory.
    KvBlocks,
    /// Spans per row of the span table.
    MaxSpans,
    /// Splits that this launch computes.
    Splits,
    /// Splits per row, those of other launches included.
    AllSplits,
    /// Bundles of rows of cascade attention.
    Bundles,
    /// Blocks that prefetch weights, beside those of the rows.
    Prefetchers,
}

const N_DIMS: usize = Dim::Prefetchers as usize + 1;

/// The value of each size in one call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dims([Option<i64>; N_DIMS]);

impl Dims {
    /// Sets a size, or checks that it is what it was before.
    fn unify(&mut self, dim: Dim, value: i64) -> bool {
        *self.0[dim as usize].get_or_insert(value) == value
    }

    /// The same sizes, and some more.
    pub(super) fn with(mut self, known: &[(Dim, i64)]) -> Self {
        for &(dim, value) in known {
            self.0[dim as usize] = Some(value);
        }
        self
    }

    /// A size that the call's tensors or its caller have given.
    pub(super) fn get(&self, dim: Dim) -> i64 {
        let value = self.0[dim as usize];
        value.unwrap_or_else(|| panic!("{dim:?} is given by no tensor. This is a bug."))
    }

    /// As [`Dims::get`], for grids.
    pub(super) fn count(&self, dim: Dim) -> u32 {
        self.get(dim) as u32
    }
}

/// One side of a tensor's declared shape.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    /// Exactly a named size.
    Is(Dim),
    /// A multiple of a named size.
    Times(i64, Dim),
    /// A named size divided.
    Over(Dim, i64),
    /// At least a named size.
    AtLeast(Dim),
    /// A constant.
    Fixed(i64),
}

/// Number format of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    F64,
    F32,
    I32,
    Bf16,
    E4m3,
    /// What keys and values are kept in: bf16 or E4M3.
    Kv,
    /// A matrix of any format, read as bytes.
    Bytes,
}

impl Format {
    fn takes(self, kind: Kind) -> bool {
        match self {
            Self::F64 => kind == Kind::Double,
            Self::F32 => kind == Kind::Float,
            Self::I32 => kind == Kind::Int,
            Self::Bf16 => kind == Kind::BFloat16,
            Self::E4m3 => kind == Kind::Float8e4m3fn,
            Self::Kv => matches!(kind, Kind::BFloat16 | Kind::Float8e4m3fn),
            Self::Bytes => true,
        }
    }

    /// Its name in the kernels' source.
    #[cfg(test)]
    fn c_type(self) -> &'static str {
        match self {
            Self::F64 => "double",
            Self::F32 => "float",
            Self::I32 => "int",
            Self::Bf16 => "bf16",
            Self::E4m3 | Self::Bytes => "u8",
            Self::Kv => "KV",
        }
    }
}

/// A parameter of a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Param {
    /// A contiguous tensor. A declared vector takes any tensor with that many values.
    Tensor(&'static str, Format, &'static [Size]),
    /// As `Tensor`, or null.
    Optional(&'static str, Format, &'static [Size]),
    /// A named size as i32; the caller passes nothing.
    I32(Dim),
    /// A named size as i64; the caller passes nothing.
    I64(Dim),
    /// A number that the caller passes.
    F32Value(&'static str),
    /// A number that the caller passes.
    I32Value(&'static str),
}

impl Param {
    fn name(&self) -> &'static str {
        match self {
            Self::Tensor(name, ..) | Self::Optional(name, ..) => name,
            Self::F32Value(name) | Self::I32Value(name) => name,
            Self::I32(_) | Self::I64(_) => "size",
        }
    }
}

/// What a caller passes for a parameter.
#[derive(Clone, Copy, Debug)]
pub(super) enum ArgValue<'a> {
    Tensor(&'a Tensor),
    Optional(Option<&'a Tensor>),
    F32(f32),
    I32(i32),
}

#[derive(Debug)]
/// A kernel's declaration.
pub(super) struct Kernel {
    /// Its name in the source.
    pub(super) name: &'static str,
    /// Its parameters in order.
    pub(super) params: &'static [Param],
    /// Grid, threads per block and dynamic shared memory.
    pub(super) shape: fn(&Dims) -> LaunchShape,
}

impl Kernel {
    /// Checks a call and makes its launch: none where a side of the grid is 0.
    ///
    /// # Panics
    /// Where a value is not what the declaration says; the message names kernel and parameter.
    pub(super) fn bind(
        &self,
        mut dims: Dims,
        values: &[ArgValue],
    ) -> Option<(LaunchShape, Vec<KernelArg>)> {
        let name = self.name;
        let passed = |param: &&Param| !matches!(param, Param::I32(_) | Param::I64(_));
        let expected = self.params.iter().filter(passed).count();
        assert_eq!(values.len(), expected, "{name} takes {expected} values. This is a bug.");
        let pairs = self.params.iter().filter(passed).zip(values);
        // exact sizes first, since bounds may refer to them
        for is_bound in [false, true] {
            for (param, value) in pairs.clone() {
                self.check(param, value, &mut dims, is_bound);
            }
        }
        let mut values = values.iter();
        let mut next = || *values.next().expect("they were counted above. This is a bug.");
        let arg = |param: &Param| match param {
            Param::I32(dim) => KernelArg::I32(dims.get(*dim) as i32),
            Param::I64(dim) => KernelArg::I64(dims.get(*dim)),
            _ => match next() {
                ArgValue::Tensor(tensor) => KernelArg::tensor(tensor),
                ArgValue::Optional(tensor) => tensor.map_or(KernelArg::NULL, KernelArg::tensor),
                ArgValue::F32(value) => KernelArg::F32(value),
                ArgValue::I32(value) => KernelArg::I32(value),
            },
        };
        let args = self.params.iter().map(arg).collect();
        let shape = (self.shape)(&dims);
        (!shape.grid.contains(&0)).then_some((shape, args))
    }

    fn check(&self, param: &Param, value: &ArgValue, dims: &mut Dims, is_bound: bool) {
        let (param, format, shape, tensor) = match (*param, *value) {
            (Param::Tensor(param, format, shape), ArgValue::Tensor(tensor)) => {
                (param, format, shape, tensor)
            }
            (Param::Optional(param, format, shape), ArgValue::Optional(Some(tensor))) => {
                (param, format, shape, tensor)
            }
            (Param::Optional(..), ArgValue::Optional(None))
            | (Param::F32Value(_), ArgValue::F32(_))
            | (Param::I32Value(_), ArgValue::I32(_)) => return,
            (param, value) => panic!(
                "{}: `{}` is {value:?}, wanted {param:?}. This is a bug.",
                self.name,
                param.name()
            ),
        };
        let size = match shape.len() {
            1 => vec![tensor.numel() as i64],
            _ => tensor.size(),
        };
        let mut fits = format.takes(tensor.kind()) && tensor.is_contiguous();
        fits &= format == Format::Bytes || size.len() == shape.len();
        for (&seen, side) in size.iter().zip(shape) {
            fits &= match *side {
                Size::AtLeast(dim) => !is_bound || seen >= dims.get(dim),
                Size::Is(dim) => dims.unify(dim, seen),
                Size::Times(n, dim) => seen % n == 0 && dims.unify(dim, seen / n),
                Size::Over(dim, n) => !is_bound || seen == dims.get(dim) / n,
                Size::Fixed(n) => seen == n,
            };
        }
        assert!(
            fits,
            "{}: `{param}` is {:?} {size:?}, contiguous {}, wanted {format:?} {shape:?} with \
             {dims:?}. This is a bug.",
            self.name,
            tensor.kind(),
            tensor.is_contiguous()
        );
    }

    /// The parameters' types in C++, pointers without const.
    #[cfg(test)]
    pub(super) fn c_types(&self) -> Vec<String> {
        let c_type = |param: &Param| match param {
            Param::Tensor(_, format, _) | Param::Optional(_, format, _) => {
                format!("{}*", format.c_type())
            }
            Param::I32(_) | Param::I32Value(_) => "int".to_owned(),
            Param::I64(_) => "long long".to_owned(),
            Param::F32Value(_) => "float".to_owned(),
        };
        self.params.iter().map(c_type).collect()
    }
}
