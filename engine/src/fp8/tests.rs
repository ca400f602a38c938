//! FP8 arithmetic against libtorch's own FP8 numbers. Checkpoints are compared with transformers in
//! tests/it/fp8.rs.

use super::*;

fn e4m3(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).to_kind(Kind::Float8e4m3fn)
}

#[test]
fn table_equals_libtorch_for_all_256_codes() {
    let codes: Vec<u8> = (0..=255).collect();
    let numbers = Tensor::from_slice(&codes).view_dtype(Kind::Float8e4m3fn).to_kind(Kind::Float);
    let numbers = Vec::<f32>::try_from(numbers).unwrap();
    for (code, (mine, theirs)) in TABLE.iter().zip(numbers).enumerate() {
        assert!(
            mine.to_bits() == theirs.to_bits() || (mine.is_nan() && theirs.is_nan()),
            "code {code}: {mine} for {theirs}"
        );
    }
}

#[test]
fn dequantize_applies_scales_per_matrix_row_and_cut_block() {
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];
    // scale, its shape, rows and columns of a block, wanted matrix
    type ScaleCase<'a> = (&'a [f32], [i64; 2], [usize; 2], [f32; 15]);
    let cases: [ScaleCase<'_>; 3] = [
        (&[2.0], [1, 1], [3, 5], values.map(|value| 2.0 * value)),
        (&[1.0, 10.0, 100.0], [3, 1], [1, 5], {
            std::array::from_fn(|at| values[at] * [1.0, 10.0, 100.0][at / 5])
        }),
        (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, 3], [2, 2], {
            std::array::from_fn(|at| values[at] * (1 + at % 5 / 2 + 3 * (at / 10)) as f32)
        }),
    ];
    for (scale, shape, block, wanted) in cases {
        let values = e4m3(&values).view([3, 5]);
        let quantized = Quantized { values, scale: Tensor::from_slice(scale).view(shape), block };
        let plain = quantized.dequantize(Kind::Float).unwrap().view([-1]);
        assert_eq!(Vec::<f32>::try_from(plain).unwrap(), wanted);
        let rounded = quantized.dequantize(Kind::BFloat16).unwrap();
        let wanted = Tensor::from_slice(&wanted).to_kind(Kind::BFloat16);
        assert!(rounded.view([-1]).equal(&wanted));
    }
}

#[test]
fn quantize_rounds_each_row_to_the_nearest_number() {
    tch::manual_seed(1);
    let weight = Tensor::randn([37, 4_096], (Kind::Float, Device::Cpu));
    // a row of zeros, and rows far from 1
    let sizes: Vec<f32> = (0..37).map(|row| [0.0, 1e-30, 1e-3, 1.0, 1e30][row % 5]).collect();
    let weight = weight * Tensor::from_slice(&sizes).unsqueeze(1);
    let quantized = quantize("w", &weight).unwrap();
    let error = (quantized.dequantize(Kind::Float).unwrap() - &weight).abs();
    // half a step of three mantissa bits, or half a step of the subnormal numbers
    let bound = weight.abs() / 16.0 + &quantized.scale / 1024.0;
    assert_eq!((error - bound * 1.001).gt(0.0).sum(Kind::Int64).int64_value(&[]), 0);
    let largest = weight.abs().amax([-1i64].as_slice(), true) / LARGEST;
    let scale = largest.where_self(&largest.ne(0.0), &largest.ones_like());
    assert!(quantized.scale.equal(&scale));
}

#[test]
fn quantize_names_a_matrix_with_nan_or_infinity() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let weight = Tensor::from_slice(&[1.0, 2.0, bad, 4.0]).view([2, 2]);
        let error = quantize("model.layers.3.mlp.down_proj.weight", &weight).unwrap_err();
        assert!(error.to_string().contains("layers.3.mlp.down_proj.weight"), "{error}");
    }
}

#[test]
fn quantize_tokens_scales_each_token_alone_and_keeps_zeros() {
    let x = Tensor::from_slice(&[0.0f32, 0.0, 0.0, 1.0, -2.0, 4.48, 1e-9, 0.0, -1e-9]).view([3, 3]);
    let quantized = quantize_tokens(&x).unwrap();
    let scale = Vec::<f32>::try_from(quantized.scale.view([-1])).unwrap();
    assert_eq!(scale, [LEAST_SCALE as f32, 4.48 / 448.0, LEAST_SCALE as f32]);
    let plain =
        Vec::<f32>::try_from(quantized.dequantize(Kind::Float).unwrap().view([-1])).unwrap();
    assert_eq!(plain[..3], [0.0; 3]);
    assert!((plain[5] - 4.48).abs() < 1e-6 && (plain[4] + 2.0).abs() < 2.0 / 16.0);
}

#[test]
fn by_row_is_exact_for_one_scale_per_matrix_and_close_for_blocks() {
    tch::manual_seed(3);
    let values = Tensor::randn([48, 80], (Kind::Float, Device::Cpu)) * 50.0;
    let values = values.clamp(-LARGEST, LARGEST).to_kind(Kind::Float8e4m3fn);
    let whole = Quantized {
        values: values.shallow_clone(),
        scale: Tensor::from_slice(&[0.25f32]).view([1, 1]),
        block: [48, 80],
    };
    let plain = whole.dequantize(Kind::Float).unwrap();
    let rows = whole.by_row("w").unwrap();
    assert!(rows.is_by_row() && rows.dequantize(Kind::Float).unwrap().equal(&plain));
    let scale = Tensor::rand([3, 2], (Kind::Float, Device::Cpu)) + 0.5;
    let blocks = Quantized { values, scale, block: [16, 40] };
    let plain = blocks.dequantize(Kind::Float).unwrap();
    let rows = blocks.by_row("w").unwrap();
    let error = (rows.dequantize(Kind::Float).unwrap() - &plain).norm() / plain.norm();
    assert!(error.double_value(&[]) < 0.03, "{error:?}");
}
