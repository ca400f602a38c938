"""Writes gguf_dequant.json: random blocks of each ggml type and the values that the Python package
`gguf` (ggml's own) gives for them. Blocks are random bytes, but for the half-precision scales,
which are kept finite. Run it with numpy and gguf installed; the same versions give the same bytes.
"""

import json
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np

SEED = 20240611
# ggml type, blocks, offsets of half-precision scales in a block
CASES = [
    ("F32", 8, []),
    ("F16", 16, []),
    ("BF16", 16, []),
    ("Q8_0", 3, [0]),
    ("Q4_0", 3, [0]),
    ("Q4_1", 3, [0, 2]),
    ("Q5_0", 3, [0]),
    ("Q5_1", 3, [0, 2]),
    ("Q4_K", 2, [0, 2]),
    ("Q5_K", 2, [0, 2]),
    ("Q6_K", 2, [208]),
]


def main():
    rng = np.random.default_rng(SEED)
    cases = []
    for name, n_blocks, scales in CASES:
        kind = gguf.GGMLQuantizationType[name]
        block_size, type_bytes = gguf.GGML_QUANT_SIZES[kind]
        if name in ("F32", "F16", "BF16"):
            blocks = gguf.quantize(rng.standard_normal((n_blocks, 1)).astype(np.float32), kind)
            blocks = blocks.view(np.uint8).reshape(n_blocks, type_bytes)
        else:
            blocks = rng.integers(0, 256, (n_blocks, type_bytes), dtype=np.uint8)
            for offset in scales:
                halves = (rng.standard_normal((n_blocks, 1)) * 0.01).astype(np.float16)
                blocks[:, offset : offset + 2] = halves.view(np.uint8)
        values = gguf.dequantize(blocks, kind).astype(np.float32).ravel()
        assert np.isfinite(values).all() and len(values) == n_blocks * block_size
        cases.append(
            {
                "name": name,
                "id": int(kind),
                "block_size": block_size,
                "type_bytes": type_bytes,
                "blocks": blocks.tobytes().hex(),
                "values": values.astype(">f4").tobytes().hex(),
            }
        )
    made = {
        "script": Path(__file__).name,
        "seed": SEED,
        "gguf": version("gguf"),
        "numpy": np.__version__,
    }
    text = json.dumps({"made_by": made, "cases": cases}, indent=1)
    Path(__file__).with_name("gguf_dequant.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
