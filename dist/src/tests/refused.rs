//! Calls that do not fit are errors of the rank that makes them, before anything is sent.

use tch::{Device, Kind, Tensor};

use super::ranks::{Ranks, Told};
use crate::{Collectives, Error};

const CPU: Device = Device::Cpu;

fn text(outcome: Result<(), Error>) -> String {
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    error.to_string()
}

fn zeros(n_values: i64, kind: Kind) -> Tensor {
    Tensor::zeros([n_values], (kind, CPU))
}

#[test]
fn refused_calls_name_what_is_wrong_and_break_nothing() {
    let told = Ranks::new(2).run(|joined| {
        let c = joined.unwrap();
        if c.world().rank == 0 {
            check_messages(&c);
        }
        // nothing was sent: the ranks are still in step
        assert!(c.all(true).unwrap());
    });
    told.iter().for_each(Told::check);
}

fn check_messages(c: &Collectives) {
    let (float, half) = (Kind::Float, Kind::Half);
    assert_eq!(
        text(c.all_reduce_sum(&mut zeros(4, half))),
        "all_reduce_sum: the tensor is a tensor of Half, wanted one of f32, bf16, f64, i64, u8"
    );
    assert_eq!(
        text(c.all_reduce_sum(&mut zeros(4, float).view([2, 2]).transpose(0, 1))),
        "all_reduce_sum: the tensor is of shape [2, 2] and strides [1, 2], wanted contiguous"
    );
    assert_eq!(
        text(Collectives::single(Device::Cuda(1)).all_reduce_sum(&mut zeros(4, float))),
        "all_reduce_sum: the tensor is on Cpu, wanted on Cuda(1)"
    );
    assert_eq!(
        text(c.broadcast(&mut zeros(4, float), 2)),
        "broadcast: the root is 2, wanted a rank below 2"
    );
    assert_eq!(
        text(c.reduce_scatter_sum(&zeros(5, float), &mut zeros(2, float))),
        "reduce_scatter_sum: a rank's part is 2 f32 beside 5 f32 of the whole, wanted the whole's \
         number format and 1/2 of its values"
    );
    assert_eq!(
        text(c.all_gather(&mut zeros(4, float), &zeros(2, Kind::Double))),
        "all_gather: a rank's part is 2 f64 beside 4 f32 of the whole, wanted the whole's number \
         format and 1/2 of its values"
    );
    let mut whole = zeros(8, float);
    for start in [1, 4] {
        let part = whole.narrow(0, start, 4);
        assert_eq!(
            text(c.all_gather(&mut whole, &part)),
            "all_gather: a rank's part is other memory of the whole, wanted memory of its own, or \
             part 0 of the whole"
        );
    }
}

#[test]
fn other_devices_are_refused() {
    let told = Ranks::new(2).with_options(|o| o.device = Device::Mps).run(|joined| {
        let error = joined.map(|_| ()).unwrap_err();
        let wanted = "join: the device is Mps, wanted the CPU or a CUDA device";
        assert_eq!(error.to_string(), wanted);
    });
    told.iter().for_each(Told::check);
}
