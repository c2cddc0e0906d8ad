# demo, verify, test and bench, each with its own set-up on a Debian 12 machine that has Rust and apt.
# FEATURES names the back ends beside Cranelift: the demo needs none of them, the others take all. `make test FEATURES=`
# goes without LLVM and the GPU, and without their set-up.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.SILENT:

ifeq (,$(shell command -v llvm-config-22))
ifneq (,$(wildcard /usr/lib/llvm-22/bin/llvm-config))
export LLVM_SYS_221_PREFIX := /usr/lib/llvm-22
endif
endif

FEATURES  = llvm,wgpu
FLAGS     = $(if $(FEATURES),--features $(FEATURES))
CHUNKWISE = target/release/chunkwise
DEMO      = target/demo

demo: FEATURES =

# `make bench` compares with other programs: GRID=full takes long sequences, two threads and decoding too (an hour and
# more). PEERS_VENV names a Python environment that has what they need, PEERS_GGML ggml's libraries (benches/peers.py).
GRID       = usual
PEERS_VENV ?= target/peers-venv
PEERS      = $(PEERS_VENV)/bin/python benches/peers.py

.PHONY: demo verify test bench peers python setup

# The handful that the demo verifies: one a class of transition.
SHOWN = $(foreach name,linear_attention retnet gla gated_deltanet rwkv7,examples/$(name).attn)

demo: setup
	echo "== Building chunkwise: Cranelift alone, no package of the system but a C linker"
	cargo build --release -p chunkwise $(FLAGS) --bin chunkwise --example make_tensors
	echo "== Five examples, every form, against the f64 reference"
	$(CHUNKWISE) verify $(SHOWN)
	echo "== What the compiler says of examples/gated_deltanet.attn"
	$(CHUNKWISE) check examples/gated_deltanet.attn
	echo "== How it derives the chunked form of linear attention, every step evaluated"
	$(CHUNKWISE) explain examples/linear_attention.attn --form chunked --check
	mkdir -p $(DEMO)
	echo "== Tensors for gated DeltaNet: 1 batch element, 300 tokens, 2 heads, K = 64, V = 48"
	target/release/examples/make_tensors $(DEMO)/in.safetensors
	echo "== Running it on them"
	$(CHUNKWISE) run examples/gated_deltanet.attn --inputs $(DEMO)/in.safetensors --output $(DEMO)/out.safetensors -v
	cat <<-'END'
	== Done: outputs and the final state are in $(DEMO)/out.safetensors. What next:
	  $(CHUNKWISE) new mine                    a variant of your own to start from
	  $(CHUNKWISE) verify mine.attn            every form of it against the reference
	  $(CHUNKWISE) bench examples/gla.attn     how fast it is
	  $(CHUNKWISE) help language               the language; the same pages are in docs/
	  make verify                                     every example on every back end (LLVM, GPU)
	  cargo install --path cli                        the command on your PATH
	END

# Every example, every form, every back end: LLVM and, on a machine without a GPU, Mesa's software driver too.
verify: setup
	cargo build --release -p chunkwise $(FLAGS)
	$(CHUNKWISE) backends
	$(CHUNKWISE) verify examples/*.attn --backend cranelift$(if $(FEATURES),$(comma)$(FEATURES))

comma := ,

test: setup
	cargo test --workspace $(FLAGS)

# The Python package as users get it: a wheel, installed into an environment of its own and tested there, then into one that
# has PyTorch, and the libraries that the package works beside, where pip can have them. That one is kept; PYTHON_TORCH=
# leaves it out, PYTHON_BESIDE= the libraries.
PYTHON_VENV   ?= target/python-venv
PYTHON_TORCH  ?= torch
PYTHON_BESIDE ?= transformers onnx onnxruntime matplotlib tqdm

python: FEATURES =
python: setup
	if ! python3 -m venv --clear $(PYTHON_VENV); then
	  echo "python3 -m venv does not work here: install python3-venv, of Python 3.11 or later" >&2
	  exit 1
	fi
	rm -rf target/wheels
	$(PYTHON_VENV)/bin/pip wheel --quiet --no-deps --wheel-dir target/wheels ./python
	wheel=$$(echo target/wheels/chunkwise-*.whl)
	echo "== $$wheel, $$(stat -c %s "$$wheel") bytes, without PyTorch"
	$(PYTHON_VENV)/bin/pip install --quiet "$$wheel[test]"
	$(PYTHON_VENV)/bin/python -m pytest -q python/tests
	if [[ -z "$(PYTHON_TORCH)" ]]; then exit 0; fi
	in=$(PYTHON_VENV)-torch
	[[ -x $$in/bin/python ]] || python3 -m venv $$in
	# The build without CUDA where its index can be reached.
	if ! $$in/bin/python -c 'import torch' 2>/dev/null &&
	  ! $$in/bin/pip install --quiet --retries 1 --index-url https://download.pytorch.org/whl/cpu torch &&
	  ! $$in/bin/pip install --quiet torch; then
	  echo "== pip has no PyTorch here: its tests are left out"
	  exit 0
	fi
	echo "== With PyTorch"
	$$in/bin/pip install --quiet --force-reinstall --no-deps "$$wheel"
	$$in/bin/pip install --quiet "$$wheel[test]"
	if ! $$in/bin/pip install --quiet $(PYTHON_BESIDE); then
	  echo "== pip has not all of $(PYTHON_BESIDE) here: the tests of what is missing are left out"
	fi
	$$in/bin/python -m pytest -q python/tests

bench: setup
	cargo bench -p chunkwise $(FLAGS) --bench compile
	cargo bench -p chunkwise-runtime $(FLAGS) --bench pieces
	cargo build --release -p chunkwise $(FLAGS)
	$(MAKE) --no-print-directory peers
	if [[ "$(GRID)" == full ]]; then
	  $(PEERS) --T 512,2048,8192 --threads 1,2
	  $(PEERS) --append --mode decode --B 1,16 --H 16 --K 128
	else
	  $(PEERS)
	fi
	echo "== The table, the lines and the plots are in target/bench"

# What the programs to compare with need, in an environment of their own.
peers:
	if $(PEERS_VENV)/bin/python -c 'import jax, matplotlib, onnx, onnxruntime, safetensors, torch' 2>/dev/null; then
	  exit 0
	fi
	echo "== Installing torch, jax and onnxruntime into $(PEERS_VENV)"
	if ! python3 -m venv $(PEERS_VENV); then
	  echo "python3 -m venv does not work here: install python3-venv, or name an environment by PEERS_VENV" >&2
	  exit 1
	fi
	# The build without CUDA where its index can be reached.
	$(PEERS_VENV)/bin/pip install --quiet --retries 1 --index-url https://download.pytorch.org/whl/cpu torch ||
	  $(PEERS_VENV)/bin/pip install --quiet torch
	$(PEERS_VENV)/bin/pip install --quiet 'jax[cpu]' matplotlib numpy onnx onnxruntime safetensors

# A C compiler to link with; LLVM 22 and a Vulkan driver where the features ask for them: a software one (lavapipe) where
# there is none. The tests skip the wgpu back end where no driver can be had.
setup:
	wanted=()
	command -v cc >/dev/null || wanted+=(gcc libc6-dev)
	if [[ "$(FEATURES)" == *llvm* ]]; then
	  command -v c++ >/dev/null || wanted+=(g++)
	  command -v llvm-config-22 >/dev/null || [[ -x /usr/lib/llvm-22/bin/llvm-config ]] || wanted+=(llvm-22-dev)
	fi
	vulkan=()
	if [[ "$$(uname)" == Linux && "$(FEATURES)" == *wgpu* ]]; then
	  compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null ||
	    vulkan+=(mesa-vulkan-drivers)
	  { ldconfig -p 2>/dev/null || true; } | grep -q 'libvulkan\.so\.1' || vulkan+=(libvulkan1)
	fi
	if ! command -v cargo >/dev/null; then
	  echo "cargo is not on the PATH: install Rust 1.95 or later from https://rustup.rs" >&2
	  exit 1
	fi
	if (( $${#wanted[@]} + $${#vulkan[@]} == 0 )); then exit 0; fi
	as_root=()
	[[ $$(id -u) == 0 ]] || as_root=(sudo)
	if ! command -v apt-get >/dev/null || ! command -v "$${as_root[0]:-true}" >/dev/null; then
	  if (( $${#wanted[@]} == 0 )); then
	    echo "no $${vulkan[*]} here, and no apt-get or no root to install with: the wgpu back end is left out" >&2
	    exit 0
	  fi
	  echo "missing: $${wanted[*]}. Install them (LLVM 22 with its headers, so that llvm-config-22 is on the PATH, and a C++" >&2
	  echo "compiler), with apt-get as root where there is one; or go without LLVM: make $(MAKECMDGOALS) FEATURES=" >&2
	  exit 1
	fi
	wanted+=("$${vulkan[@]}")
	echo "== Installing $${wanted[*]}"
	"$${as_root[@]}" apt-get update -q
	"$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$${wanted[@]}"
