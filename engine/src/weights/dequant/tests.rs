//! Dequantisation against values of ggml's Python package.

use super::*;

/// Blocks and values of ggml's Python package; `make_gguf_dequant.py` writes the file.
#[derive(serde::Deserialize)]
struct GoldenDequant {
    cases: Vec<GoldenTensor>,
}

#[derive(serde::Deserialize)]
struct GoldenTensor {
    name: String,
    id: u32,
    block_size: usize,
    type_bytes: usize,
    /// The blocks, two hex digits per byte.
    blocks: String,
    /// The bits of the values, eight hex digits each.
    values: String,
}

fn golden() -> GoldenDequant {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/gguf_dequant.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn hex(text: &str, digits: usize) -> Vec<u32> {
    let numbers = text.as_bytes().chunks_exact(digits);
    numbers.map(|n| u32::from_str_radix(std::str::from_utf8(n).unwrap(), 16).unwrap()).collect()
}

#[test]
fn dequantize_equals_ggml_bit_for_bit() {
    let golden = golden();
    assert_eq!(golden.cases.len(), 11);
    for case in golden.cases {
        let ty = GgmlType::from_id(case.id).unwrap();
        assert_eq!((ty.block_size(), ty.type_bytes()), (case.block_size, case.type_bytes));
        let bytes: Vec<u8> = hex(&case.blocks, 2).iter().map(|byte| *byte as u8).collect();
        let wanted = hex(&case.values, 8);
        let mut seen = vec![0.0; wanted.len()];
        dequantize(ty, &bytes, &mut seen).unwrap();
        for (idx, (seen, wanted)) in seen.iter().zip(&wanted).enumerate() {
            let wanted = f32::from_bits(*wanted);
            assert_eq!(seen.to_bits(), wanted.to_bits(), "{} {idx}: {seen} {wanted}", case.name);
        }
    }
}

#[test]
fn dequantize_refuses_sizes_that_do_not_fit() {
    let error = dequantize(GgmlType::Q8_0, &[0; 33], &mut [0.0; 32]).unwrap_err();
    assert_eq!(error, "33 bytes of Q8_0 do not hold 32 values");
    assert!(dequantize(GgmlType::Q8_0, &[0; 34], &mut [0.0; 31]).is_err());
    assert!(dequantize(GgmlType::Q6K, &[0; 420], &mut [0.0; 256]).is_err());
    assert!(dequantize(GgmlType::F16, &[], &mut []).is_ok());
}

#[test]
fn ggml_type_from_id_names_an_unsupported_type() {
    assert_eq!(GgmlType::from_id(10).unwrap_err(), "tensor type Q2_K");
    assert_eq!(GgmlType::from_id(99).unwrap_err(), "tensor type number 99");
}
