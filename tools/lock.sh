#!/usr/bin/env bash
# Write requirements/*.txt, what the image installs: Python 3.11 on x86-64, the server with traces (the extras serve and
# otel), versions of constraints.txt, every file pinned by its hash. Needs uv. PyPI has the CUDA builds of torch; UV_INDEX
# or UV_FIND_LINKS names who has the CPU ones, by default what pip's find-links does.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "uv is missing: pip install uv" >&2; exit 2; }
export UV_FIND_LINKS=${UV_FIND_LINKS:-$(python3 -m pip config get global.find-links 2>/dev/null || true)}
torch=$(grep '^torch==' constraints.txt)

compile() {  # OUTPUT [ARGUMENT...]: input as a file
    uv pip compile --quiet --constraints constraints.txt --generate-hashes --only-binary :all: --no-annotate --no-header \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 --output-file "requirements/$1" "${@:2}" >/dev/null
    echo "requirements/$1: $(grep -c '==' "requirements/$1") packages"
}

compile cpu.txt --extra serve --extra otel --override <(echo "$torch+cpu") pyproject.toml
compile cuda.txt --extra serve --extra otel --override <(echo "${torch/==/===}") pyproject.toml  # === takes no CPU build for the same version
compile build.txt <(echo hatchling)
