//! The memory of a CPU path that comes and goes with its weights.

use joust_schema::seed::Seed;
use tch::{Device, Kind, Tensor};

use super::CpuRunner;
use crate::batch::{BatchRow, ForwardBatch};
use crate::config::examples::tiny;
use crate::kv::{KvSlot, Span};
use crate::model::Decoder;

#[test]
fn released_weights_come_back_and_nothing_is_computed_until_then() {
    for kind in [Kind::Float, Kind::BFloat16] {
        let model = Decoder::random(&tiny(), Seed::new(3), Device::Cpu, kind);
        let mut runner = CpuRunner::new(&model, 2).unwrap();
        let batch = ForwardBatch {
            tokens: vec![1, 5, 7],
            positions: vec![0, 1, 2],
            slots: (0..3).map(|offset| KvSlot { block: 1, offset }).collect(),
            rows: vec![BatchRow {
                start: 0,
                len: 3,
                position: 0,
                spans: vec![Span { block: 1, n_tokens: 3 }],
            }],
            wanted: vec![2],
        };
        let before = runner.forward(&batch).unwrap();
        runner.release();
        let error = runner.forward(&batch).unwrap_err().to_string();
        assert!(error.contains("the weights are released"), "{error}");
        runner.take_weights(&model).unwrap();
        assert!(runner.forward(&batch).unwrap().equal(&before));
        let all_finite = Tensor::isfinite(&before).all().int64_value(&[]);
        assert_eq!(all_finite, 1);
    }
}
