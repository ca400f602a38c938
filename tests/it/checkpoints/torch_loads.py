"""Loads the shards of a checkpoint by torch's distributed checkpoints, without processes, and the
model's folder by transformers where that is installed. Arguments: the checkpoint's folder, a file
of the whole tensors, a folder to write. Prints a JSON object."""

import json
import pathlib
import sys

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch.distributed.checkpoint._consolidate_hf_safetensors import consolidate_safetensors_files
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

step, whole_file, written = (pathlib.Path(argument) for argument in sys.argv[1:])
state_dir = step / "trainer_state"
wanted = load_file(whole_file)

metadata = HuggingFaceStorageReader(str(state_dir)).read_metadata().state_dict_metadata
assert metadata.keys() == wanted.keys(), metadata.keys() ^ wanted.keys()
found = {
    name: torch.full(it.size, float("nan"), dtype=it.properties.dtype)
    for name, it in metadata.items()
}
dcp.load(found, storage_reader=HuggingFaceStorageReader(str(state_dir)), no_dist=True)
for name, tensor in wanted.items():
    assert found[name].dtype == torch.float32 and torch.equal(found[name], tensor), name

written.mkdir()
consolidate_safetensors_files(str(state_dir), str(written), dict.fromkeys(wanted, 1))
consolidated = load_file(written / "model-00001-of-00001.safetensors")
assert consolidated.keys() == wanted.keys()
assert all(torch.equal(consolidated[name], tensor) for name, tensor in wanted.items())

n_pieces = max(len(it.chunks) for it in metadata.values())
result = {"n_tensors": len(wanted), "n_pieces": n_pieces, "transformers": None}
try:
    from transformers import AutoModelForCausalLM
except ImportError:
    pass
else:
    model, info = AutoModelForCausalLM.from_pretrained(
        step, dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), info
    tensors = {}
    for file in sorted(step.glob("model*.safetensors")):
        tensors |= load_file(file)
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tensors.items())
    result["transformers"] = len(tensors)
print(json.dumps(result))
