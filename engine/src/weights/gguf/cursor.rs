//! A bounds-checked reader over a GGUF header's bytes.
//!
//! This file owns the encoding of numbers, strings and metadata values. It does not know which keys
//! or tensors a file should have. Every count is compared with the remaining bytes before memory is
//! allocated for it.

use super::value::GgufValue;

/// Maximum number of array elements: more than any vocabulary has means a broken file.
const MAX_ARRAY_ELEMENTS: usize = 1 << 24;
/// Maximum nesting of arrays. The format allows any; deeper nesting has no use.
const MAX_ARRAY_DEPTH: usize = 4;

/// Ids of the format's value types.
mod type_id {
    pub(super) const UINT8: u32 = 0;
    pub(super) const INT8: u32 = 1;
    pub(super) const UINT16: u32 = 2;
    pub(super) const INT16: u32 = 3;
    pub(super) const UINT32: u32 = 4;
    pub(super) const INT32: u32 = 5;
    pub(super) const FLOAT32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const STRING: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const UINT64: u32 = 10;
    pub(super) const INT64: u32 = 11;
    pub(super) const FLOAT64: u32 = 12;
}

/// A position in the bytes of a file.
pub(super) struct GgufCursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> GgufCursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Offset of the next byte from the start of the file.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Takes the next `n` bytes; `what` names them in the error.
    pub(super) fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], String> {
        let taken = self.position.checked_add(n).and_then(|end| self.bytes.get(self.position..end));
        let taken = taken.ok_or_else(|| {
            let left = self.bytes.len() - self.position;
            format!("the file ends in {what}: {n} bytes wanted, {left} left")
        })?;
        self.position += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Reads a count of items of at least `min_bytes` each, which must fit into the rest of the
    /// file.
    pub(super) fn count(&mut self, what: &str, min_bytes: usize) -> Result<usize, String> {
        let count = self.u64(what)?;
        let left = self.bytes.len() - self.position;
        match usize::try_from(count) {
            Ok(count) if count <= left / min_bytes => Ok(count),
            _ => Err(format!("{count} {what} do not fit into the {left} bytes that are left")),
        }
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String, String> {
        let n = self.count("bytes of text", 1).map_err(|reason| format!("{what}: {reason}"))?;
        let text = self.take(n, what)?;
        std::str::from_utf8(text).map(str::to_owned).map_err(|_| format!("{what} is not UTF-8"))
    }

    /// Reads a metadata value of the type with this id.
    pub(super) fn value(&mut self, type_id: u32) -> Result<GgufValue, String> {
        self.nested_value(type_id, 0)
    }

    fn nested_value(&mut self, type_id: u32, depth: usize) -> Result<GgufValue, String> {
        let what = "a value";
        Ok(match type_id {
            type_id::UINT8 => GgufValue::Unsigned(u8::from_le_bytes(self.array(what)?).into()),
            type_id::UINT16 => GgufValue::Unsigned(u16::from_le_bytes(self.array(what)?).into()),
            type_id::UINT32 => GgufValue::Unsigned(self.u32(what)?.into()),
            type_id::UINT64 => GgufValue::Unsigned(self.u64(what)?),
            type_id::INT8 => GgufValue::Signed(i8::from_le_bytes(self.array(what)?).into()),
            type_id::INT16 => GgufValue::Signed(i16::from_le_bytes(self.array(what)?).into()),
            type_id::INT32 => GgufValue::Signed(i32::from_le_bytes(self.array(what)?).into()),
            type_id::INT64 => GgufValue::Signed(i64::from_le_bytes(self.array(what)?)),
            type_id::FLOAT32 => GgufValue::F32(f32::from_le_bytes(self.array(what)?)),
            type_id::FLOAT64 => GgufValue::F64(f64::from_le_bytes(self.array(what)?)),
            type_id::BOOL => match self.array(what)? {
                [0] => GgufValue::Bool(false),
                [1] => GgufValue::Bool(true),
                [other] => return Err(format!("{other} is not a boolean; 0 or 1 is")),
            },
            type_id::STRING => GgufValue::String(self.string(what)?),
            type_id::ARRAY => GgufValue::Array(self.elements(depth + 1)?),
            other => return Err(format!("{other} is not a value type of GGUF")),
        })
    }

    fn elements(&mut self, depth: usize) -> Result<Vec<GgufValue>, String> {
        if depth > MAX_ARRAY_DEPTH {
            return Err(format!("arrays are nested deeper than {MAX_ARRAY_DEPTH}"));
        }
        let type_id = self.u32("an array's type")?;
        let n = self.count("array elements", min_bytes(type_id))?;
        if n > MAX_ARRAY_ELEMENTS {
            return Err(format!("{n} array elements, at most {MAX_ARRAY_ELEMENTS} are read"));
        }
        (0..n).map(|_| self.nested_value(type_id, depth)).collect()
    }
}

/// Minimum number of bytes of a value; an unknown type is refused at its first element.
fn min_bytes(type_id: u32) -> usize {
    match type_id {
        type_id::UINT16 | type_id::INT16 => 2,
        type_id::UINT32 | type_id::INT32 | type_id::FLOAT32 => 4,
        type_id::UINT64 | type_id::INT64 | type_id::FLOAT64 | type_id::STRING => 8,
        type_id::ARRAY => 4 + 8,
        _ => 1,
    }
}
