//! Tensors in pieces: any range of them is read, whatever the pieces are.

use tch::{Device, Kind};

use super::*;
use crate::weights::write_file;

/// Number of values of the tensor in these tests, which are its places.
const N: usize = 10;

fn values(range: Range<usize>) -> Tensor {
    Tensor::arange_start(range.start as i64, range.end as i64, (Kind::Float, Device::Cpu))
}

fn piece(range: Range<usize>) -> Piece {
    Piece { name: "a".to_owned(), start: range.start, values: values(range) }
}

/// Writes a shard for each beginning and end of a piece; none where both are 0.
fn write(dir: &Path, shards: &[(usize, usize)]) {
    for (shard, &(start, end)) in shards.iter().enumerate() {
        let pieces: Vec<Piece> = (end > 0).then(|| piece(start..end)).into_iter().collect();
        write_shard(&dir.join(shard_name(shard)), &pieces).unwrap();
    }
}

fn read(shards: &Shards, range: Range<usize>) -> Result<Tensor, Error> {
    let target = Tensor::full([range.len() as i64], -1.0, (Kind::Double, Device::Cpu));
    shards.read("a", N, range, &target).map(|()| target)
}

fn check_all_ranges(shards: &Shards) {
    for start in 0..=N {
        for end in start..=N {
            let read = read(shards, start..end).unwrap();
            assert!(read.equal(&values(start..end).to_kind(Kind::Double)), "{start}..{end}");
        }
    }
}

#[test]
fn any_range_of_a_tensor_is_read_from_any_shards() {
    for shards in [
        &[(0, 10)][..],
        &[(0, 3), (3, 10)],
        &[(0, 1), (1, 8), (8, 10)],
        // a rank may have nothing of a tensor
        &[(0, 0), (0, 5), (5, 6), (6, 10), (0, 0)],
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), shards);
        std::fs::write(dir.path().join("reference.safetensors"), "another file").unwrap();
        check_all_ranges(&Shards::open_folder(dir.path()).unwrap());
    }
}

#[test]
fn a_file_of_whole_tensors_is_one_piece_of_each() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole.safetensors");
    write_file(&path, &[("a".to_owned(), values(0..N).view([2, 5]))].into()).unwrap();
    check_all_ranges(&Shards::open(&[path]).unwrap());
}

#[test]
fn shards_that_make_no_tensor_are_refused() {
    for (shards, wanted) in [
        (&[(0, 3), (5, 10)][..], "has no piece from value 3 on, the next is at 5"),
        (&[(0, 3), (2, 10)], "has no piece from value 3 on, the next is at 2"),
        (&[(1, 10)], "has no piece from value 0 on, the next is at 1"),
        (&[(0, 3), (3, 9)], "has 9 values, wanted 10"),
        (&[(0, 0)], "tensor a"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), shards);
        let error = read(&Shards::open_folder(dir.path()).unwrap(), 0..2).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn pieces_without_a_flat_place_are_refused() {
    for (offsets, shape) in [
        (r#"{"a": {"saved_offsets": [0, 0]}}"#, [10].as_slice()),
        (r#"{"a": {"saved_offsets": [0, 0]}}"#, &[5, 2]),
        (r#"{"a": {"saved_offsets": [-1]}}"#, &[10]),
        (r#"{"b": {"saved_offsets": [0]}}"#, &[10]),
        ("{}", &[10]),
        ("no JSON", &[10]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(shard_name(0));
        let texts = BTreeMap::from([(OFFSETS, offsets.to_owned())]);
        let entry = TensorEntry { name: "a".to_owned(), shape: shape.into(), kind: Kind::Float };
        let mut file = TensorFile::create(&path, &texts, vec![entry]).unwrap();
        file.write(&values(0..N).view(shape)).unwrap();
        file.finish().unwrap();
        let error = Shards::open_folder(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
}
