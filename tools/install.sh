#!/usr/bin/env bash
# Install miclip with its development tools into a virtual environment: install.sh PYTHON
# GPU=1 takes CUDA builds; otherwise torch comes from TORCH_INDEX when that can be reached.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
pip=("$python" -m pip install --constraint constraints.txt)

reachable() {
    "$python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=5)' "$1" 2>/dev/null
}

index=()
if [ "${GPU:-0}" != 1 ] && [ -n "${TORCH_INDEX:-}" ] && reachable "$TORCH_INDEX"; then
    index=(--extra-index-url "$TORCH_INDEX")
fi

"${pip[@]}" "${index[@]}" torch torchvision   # first and apart: nothing later may replace it by another build
"${pip[@]}" hatchling editables
"${pip[@]}" --no-build-isolation --editable '.[dev,build]'

if [ "${GPU:-0}" = 1 ]; then   # faiss-cpu and faiss-gpu are the same module: the last one installed is whole
    "$python" -m pip uninstall --yes faiss-cpu
    "${pip[@]}" --force-reinstall --no-deps 'faiss-gpu>=1.15.1,<2'
fi
