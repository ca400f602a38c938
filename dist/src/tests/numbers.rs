//! What the collectives compute, on one rank and on several.

use tch::{Device, Kind, Tensor};

use super::ranks::{Ranks, Told, test_name};
use crate::Collectives;

const CPU: Device = Device::Cpu;

/// Runs a check on worlds of several sizes.
fn check<F: Fn(&Collectives) + Copy>(sizes: &[usize], body: F) {
    for &size in sizes {
        let told = Ranks::new(size).run_named(&test_name::<F>(), |joined| body(&joined.unwrap()));
        assert_eq!(told.len(), size);
        told.iter().for_each(Told::check);
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.reshape([-1]).to_kind(Kind::Double)).unwrap()
}

/// Sum of f(rank) over the ranks.
fn over_ranks(size: usize, f: impl Fn(f64) -> f64) -> f64 {
    (0..size).map(|rank| f(rank as f64)).sum()
}

/// Four values per rank, of which value i of rank r is i + r.
fn own(c: &Collectives, kind: Kind) -> Tensor {
    let n_values = 4 * i64::try_from(c.world().size).unwrap();
    Tensor::arange(n_values, (kind, CPU)) + i64::try_from(c.world().rank).unwrap()
}

/// The sum of [`own`] over all ranks.
fn sums(c: &Collectives) -> Vec<f64> {
    let size = c.world().size;
    (0..4 * size).map(|i| over_ranks(size, |rank| i as f64 + rank)).collect()
}

#[test]
fn tensors_are_summed_scattered_gathered_and_copied_in_every_format() {
    check(&[1, 2, 4], |c| {
        let (rank, size) = (c.world().rank, c.world().size);
        for kind in [Kind::Float, Kind::BFloat16, Kind::Double, Kind::Int64, Kind::Uint8] {
            let mut tensor = own(c, kind);
            c.all_reduce_sum(&mut tensor).unwrap();
            assert_eq!(numbers(&tensor), sums(c), "{kind:?}");

            let mut part = Tensor::zeros([2, 2], (kind, CPU));
            c.reduce_scatter_sum(&own(c, kind), &mut part).unwrap();
            assert_eq!(numbers(&part), sums(c)[4 * rank..4 * (rank + 1)], "{kind:?}");

            let mut whole = Tensor::zeros([4 * i64::try_from(size).unwrap()], (kind, CPU));
            c.all_gather(&mut whole, &part).unwrap();
            assert_eq!(numbers(&whole), sums(c), "{kind:?}");

            for root in 0..size {
                let mut tensor = own(c, kind);
                c.broadcast(&mut tensor, root).unwrap();
                let wanted: Vec<f64> = (0..4 * size).map(|i| (i + root) as f64).collect();
                assert_eq!(numbers(&tensor), wanted, "{kind:?}");
            }
        }
    });
}

#[test]
fn parts_may_be_views_of_the_whole() {
    check(&[1, 3], |c| {
        let rank = i64::try_from(c.world().rank).unwrap();
        // a bucket in which each rank updates its own part, as an optimiser does
        let whole = own(c, Kind::Float).set_requires_grad(true);
        let mut part = whole.detach().narrow(0, 4 * rank, 4);
        c.reduce_scatter_sum(&whole, &mut part).unwrap();
        let mut output = whole.detach();
        c.all_gather(&mut output, &part).unwrap();
        assert_eq!(numbers(&whole), sums(c));
    });
}

#[test]
fn tensors_without_values_are_no_problem() {
    check(&[1, 2], |c| {
        let mut empty = Tensor::zeros([0, 3], (Kind::Float, CPU));
        let mut other = empty.copy();
        c.all_reduce_sum(&mut empty).unwrap();
        c.broadcast(&mut empty, 0).unwrap();
        c.all_gather(&mut other, &empty).unwrap();
        c.reduce_scatter_sum(&empty, &mut other).unwrap();
        assert!(c.gather_bytes(Vec::new()).unwrap().is_none_or(|all| all.concat().is_empty()));
        assert!(c.all_gather_bytes(Vec::new()).unwrap().concat().is_empty());
        assert_eq!(c.broadcast_bytes(Vec::new()).unwrap(), b"");
        c.sum_f64(&mut []).unwrap();
        // all ranks are still in step
        assert!(c.all(true).unwrap());
    });
}

#[test]
fn started_collectives_may_be_waited_for_in_any_order() {
    check(&[1, 3], |c| {
        let (rank, size) = (c.world().rank as f64, c.world().size);
        let mut tensors: Vec<Tensor> = (0..8)
            .map(|i| Tensor::full([100_000], rank + f64::from(i), (Kind::Float, CPU)))
            .collect();
        let works: Vec<_> =
            tensors.iter_mut().map(|t| c.start_all_reduce_sum(t).unwrap()).collect();
        let input = own(c, Kind::Float);
        let mut part = Tensor::zeros([4], (Kind::Float, CPU));
        let scattered = c.start_reduce_scatter_sum(&input, &mut part).unwrap();
        // small collectives do not queue behind those of tensors
        c.barrier().unwrap();
        drop(scattered); // waits, too
        works.into_iter().rev().for_each(|work| work.wait().unwrap());
        for (i, tensor) in tensors.iter().enumerate() {
            let wanted = over_ranks(size, |rank| rank + i as f64);
            assert_eq!(numbers(&tensor.narrow(0, 99_999, 1)), [wanted]);
        }
        assert_eq!(numbers(&part), sums(c)[4 * c.world().rank..][..4]);
    });
}

#[test]
fn sums_have_the_same_bits_on_all_ranks_and_in_every_repetition() {
    check(&[4], |c| {
        tch::manual_seed(1 + i64::try_from(c.world().rank).unwrap());
        let source = Tensor::randn([300_001], (Kind::Float, CPU));
        let mut fractions = vec![0.1; 100];
        fractions[0] = 1e-17 + c.world().rank as f64;
        let mut first: Option<(Tensor, Vec<f64>)> = None;
        for _ in 0..3 {
            let mut tensor = source.copy();
            c.all_reduce_sum(&mut tensor).unwrap();
            let mut of_first_rank = tensor.copy();
            c.broadcast(&mut of_first_rank, 0).unwrap();
            assert!(c.all(tensor.equal(&of_first_rank)).unwrap());

            let mut values = fractions.clone();
            c.sum_f64(&mut values).unwrap();
            let bytes = |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let ours: Vec<u8> = bytes(&values);
            assert_eq!(c.broadcast_bytes(ours.clone()).unwrap(), ours);

            if let Some((tensor_before, values_before)) = &first {
                assert!(tensor.equal(tensor_before));
                assert_eq!(&values, values_before);
            }
            first = Some((tensor, values));
        }
    });
}

#[test]
fn numbers_are_summed_and_compared_few_and_many() {
    check(&[1, 2, 4], |c| {
        let (rank, size) = (c.world().rank as f64, c.world().size);
        for n_values in [1, 28, 29, 5_000] {
            let own: Vec<f64> = (0..n_values).map(|i| f64::from(i) - rank).collect();
            let mut values = own.clone();
            c.sum_f64(&mut values).unwrap();
            let wanted: Vec<f64> =
                (0..n_values).map(|i| over_ranks(size, |rank| f64::from(i) - rank)).collect();
            assert_eq!(values, wanted);
            let mut values = own;
            c.max_f64(&mut values).unwrap();
            assert_eq!(values, (0..n_values).map(f64::from).collect::<Vec<_>>());
        }
        let is_last = c.world().rank + 1 == size;
        let mut values = [if is_last { f64::NAN } else { 1.0 }, f64::NEG_INFINITY];
        c.max_f64(&mut values).unwrap();
        assert!(values[0].is_nan());
        assert_eq!(values[1], f64::NEG_INFINITY);
    });
}

#[test]
fn all_and_any_ask_every_rank() {
    check(&[1, 3], |c| {
        let is_last = c.world().rank + 1 == c.world().size;
        assert!(c.all(true).unwrap());
        assert!(!c.all(!is_last).unwrap());
        assert!(c.any(is_last).unwrap());
        assert!(!c.any(false).unwrap());
    });
}

#[test]
fn bytes_of_any_length_are_gathered_and_copied() {
    check(&[1, 2, 4], |c| {
        // tests have pieces of 1 KiB
        let bytes = |rank: usize, length: usize| -> Vec<u8> {
            (0..length).map(|i| u8::try_from((i + 7 * rank) % 251).unwrap()).collect()
        };
        let rank = c.world().rank;
        for lengths in [[0, 5, 1024, 1025], [3000, 0, 1, 2048], [7, 7, 7, 7]] {
            let all = c.gather_bytes(bytes(rank, lengths[rank])).unwrap();
            let wanted: Vec<Vec<u8>> =
                (0..c.world().size).map(|rank| bytes(rank, lengths[rank])).collect();
            assert_eq!(c.all_gather_bytes(bytes(rank, lengths[rank])).unwrap(), wanted);
            assert_eq!(all, c.world().is_first().then_some(wanted));
            let copied = c.broadcast_bytes(bytes(rank, lengths[rank])).unwrap();
            assert_eq!(copied, bytes(0, lengths[0]));
        }
    });
}

#[test]
fn collectives_may_be_shared_between_threads_and_work_moved() {
    fn check_shared<T: Send + Sync>(_: &T) {}
    fn check_moved<T: Send>(work: T) -> T {
        work
    }
    let c = Collectives::single(CPU);
    check_shared(&c);
    let mut tensor = Tensor::ones([2], (Kind::Float, CPU));
    check_moved(c.start_all_reduce_sum(&mut tensor).unwrap()).wait().unwrap();
    assert_eq!(numbers(&tensor), [1.0; 2]);
}

#[test]
fn one_process_starts_nothing() {
    let told = Ranks::new(1).run(|joined| {
        let before = n_threads();
        for c in [joined.unwrap(), Collectives::single(CPU)] {
            assert_eq!(c.world().size, 1);
            c.barrier().unwrap();
            assert_eq!(c.gather_bytes(vec![1]).unwrap(), Some(vec![vec![1]]));
            assert_eq!(c.all_gather_bytes(vec![1]).unwrap(), vec![vec![1]]);
            assert_eq!(c.fail("why").unwrap(), [(0, "why".to_owned())]);
            assert_eq!(n_threads(), before);
        }
        // nobody listens at the address
        let address =
            (std::env::var("MASTER_ADDR").unwrap(), std::env::var("MASTER_PORT").unwrap());
        let address = format!("{}:{}", address.0, address.1);
        assert!(std::net::TcpStream::connect(address).is_err());
    });
    told[0].check();
}

fn n_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}
