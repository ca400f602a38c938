"""Makes tests/golden/smollm2.json: SmolLM2-135M-Instruct, read by transformers from its GGUF file.

    make smollm2
    pip install torch==2.11.0 transformers==5.23.0 gguf accelerate
    python tests/golden/make_smollm2.py

The weights are dequantised to float32, as joust does. Special tokens and templates are those that
transformers makes of the file's metadata. Its conversion forgets that this tokenizer cuts at every
numeral: texts with numerals beyond ASCII are left out.
"""

from pathlib import Path

import reference
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent.parent / ".cache" / "smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
LEAST_GAP = 5e-3

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea, there lived",
    "def fibonacci(n):\n",
    "<|im_start|>user\nWhat is 12 + 30?<|im_end|>\n<|im_start|>assistant\n",
    "1, 2, 3, 4,",
    "Water boils at",
]


def is_converted(text):
    return all(character.isascii() or not character.isnumeric() for character in text)


def main():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, gguf_file=FILE)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=FILE, dtype="float32").eval()
    prompts = []
    for text in PROMPTS:
        token_ids = tokenizer.encode(text, add_special_tokens=False)
        try:
            row = reference.greedy(model, token_ids, LEAST_GAP)
        except AssertionError as error:
            print(f"{text!r} will not do ({error})")
            continue
        row["greedy_text"] = tokenizer.decode(
            row["greedy_token_ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        prompts.append(row)
    assert len(prompts) >= 2, "too few prompts without near ties"
    golden = {
        "_meta": {
            "script": "tests/golden/make_smollm2.py",
            "file": FILE,
            "versions": reference.versions(),
            "dtype": "float32",
        },
        "prompts": prompts,
        "tokenization": [
            row for row in reference.tokenization(tokenizer) if is_converted(row["text"])
        ],
        "chats": reference.chats(tokenizer),
    }
    reference.write_json(HERE / "smollm2.json", golden)


if __name__ == "__main__":
    main()
