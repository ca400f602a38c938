//! Files that are written tensor by tensor are read as they were meant.

use super::*;
use crate::weights::read_file;
use crate::weights::safetensors::texts_of;

fn entry(name: &str, tensor: &Tensor, kind: Kind) -> TensorEntry {
    TensorEntry { name: name.to_owned(), shape: tensor.size(), kind }
}

#[test]
fn a_file_has_its_tensors_in_their_formats() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("some.safetensors");
    let matrix = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([3, 2]);
    let (turned, empty) = (matrix.tr(), matrix.narrow(0, 0, 0));
    let all = [
        (entry("z", &turned, Kind::Float), turned),
        (entry("a", &matrix, Kind::BFloat16), matrix),
        (entry("b", &empty, Kind::Float), empty),
    ];
    let texts = BTreeMap::from([("format", "pt".to_owned()), ("more", "{\"a\": 1}".to_owned())]);
    let write = || {
        let entries = all.iter().map(|(entry, _)| entry.clone()).collect();
        let mut file = TensorFile::create(&path, &texts, entries).unwrap();
        all.iter().for_each(|(_, tensor)| file.write(tensor).unwrap());
        file.finish().unwrap();
        std::fs::read(&path).unwrap()
    };
    assert!(write() == write());
    let read = read_file(&path).unwrap();
    assert_eq!(read.len(), all.len());
    for (TensorEntry { name, shape, kind }, tensor) in &all {
        assert_eq!((&read[name].size(), read[name].kind()), (shape, *kind), "{name}");
        assert!(read[name].to_kind(Kind::Float).equal(tensor), "{name}");
    }
    assert_eq!(texts_of(&path).unwrap()["more"], "{\"a\": 1}");
}

#[test]
fn a_file_may_have_no_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none.safetensors");
    TensorFile::create(&path, &BTreeMap::new(), Vec::new()).unwrap().finish().unwrap();
    assert!(read_file(&path).unwrap().is_empty());
}

#[test]
#[should_panic(expected = "a has another shape")]
fn another_shape_than_that_of_the_header_is_a_bug() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
    let entries = vec![entry("a", &tensor, Kind::Float)];
    let path = dir.path().join("some.safetensors");
    let mut file = TensorFile::create(&path, &BTreeMap::new(), entries).unwrap();
    let _ = file.write(&tensor.tr());
}
