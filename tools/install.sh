#!/usr/bin/env bash
# Install miclip with its development tools into a virtual environment: install.sh PYTHON
# GPU=1 takes CUDA builds; otherwise torch comes from TORCH_INDEX where that is set.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
pip=("$python" -m pip install --constraint constraints.txt)

index=()
if [ "${GPU:-0}" != 1 ] && [ -n "${TORCH_INDEX:-}" ]; then
    index=(--extra-index-url "$TORCH_INDEX")
fi

"${pip[@]}" "${index[@]}" torch torchvision   # first and apart: nothing later may replace it by another build
"${pip[@]}" hatchling editables
"${pip[@]}" --no-build-isolation --editable '.[serve,dev,build]'

if [ "${GPU:-0}" = 1 ]; then   # faiss-cpu and faiss-gpu are the same module: the last one installed is whole
    "$python" -m pip uninstall --yes faiss-cpu
    "${pip[@]}" --force-reinstall --no-deps 'faiss-gpu>=1.15.1,<2'
fi
