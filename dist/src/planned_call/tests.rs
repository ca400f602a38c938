//! Frames, and how calls are written in errors.

use super::*;

#[test]
fn frames_carry_a_call_and_values() {
    let call = PlannedCall::of_tensors(Collective::Broadcast, Kind::BFloat16, 12).with_root(3);
    let frame = call.frame(&[1, 2, 3]);
    let (read, values) = PlannedCall::read(&frame);
    assert_eq!(read, call);
    assert_eq!(&values[..4], [1, 2, 3, 0]);
    assert_eq!(values.len(), INLINE_BYTES);
    assert_eq!(INLINE_BYTES, 28 * size_of::<f64>());
}

#[test]
fn calls_are_written_with_all_that_must_agree() {
    use Collective::*;
    let cases = [
        (PlannedCall::of_values(Barrier, 0), "barrier"),
        (PlannedCall::of_values(BroadcastBytes, 0), "broadcast_bytes"),
        (PlannedCall::of_values(SumF64, 3), "sum_f64 of 3"),
        (PlannedCall::of_tensors(AllGather, Kind::Uint8, 16), "all_gather of 16 u8"),
        (
            PlannedCall::of_tensors(Broadcast, Kind::Float, 4).with_root(1),
            "broadcast of 4 f32 from rank 1",
        ),
        (
            PlannedCall { collective: 99, ..PlannedCall::of_values(All, 0) },
            "collective of another \
            version",
        ),
    ];
    for (call, wanted) in cases {
        assert_eq!(call.to_string(), wanted);
    }
}
