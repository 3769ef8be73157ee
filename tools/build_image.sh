#!/usr/bin/env bash
# Build the container image, with Docker where its engine runs, else with buildah (as root), and try it:
#     build_image.sh [cpu|cuda]            TAG=miclip:0.1.0  BASE=IMAGE  PYTHON=python3.11
# Wheels are fetched here, as pip is configured on this machine, and their hashes checked; the build itself needs no index.
# TORCH_INDEX names the index that has CPU builds of torch, if pip does not know one. Without Docker and BASE the base is
# made by debootstrap, so no registry is needed (Debian's packages buildah and debootstrap). Set STORAGE_DRIVER=vfs where
# there is no overlay file system.
set -euo pipefail
cd "$(dirname "$0")/.."
variant=${1:-cpu}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
tag=${TAG:-miclip:$version$([ "$variant" = cpu ] || echo "-$variant")}
python=${PYTHON:-python3}
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} BUILDAH_FORMAT=docker

fetch_wheels() {
    "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
        echo "The image has Python 3.11; name one: PYTHON=python3.11 $0" >&2; exit 2; }
    echo "Fetching wheels"
    "$python" -m pip download -qq --require-hashes --no-deps --only-binary :all: --dest requirements/wheels \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r requirements/build.txt -r "requirements/$variant.txt"
}

make_base() {  # prints the name of a Debian with Python
    local name=localhost/miclip-base:bookworm folder
    if ! buildah inspect --type image "$name" >/dev/null 2>&1; then
        folder=$(mktemp -d)
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder" >&2
        rm -rf "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/*
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$folder" / >/dev/null
        buildah commit --quiet --rm "$container" "$name" >/dev/null
        rm -rf "$folder"
    fi
    echo "$name"
}

fetch_wheels
arguments=(--build-arg VARIANT="$variant" --build-arg PIP_NO_INDEX=1 --tag "$tag")
if docker info >/dev/null 2>&1; then
    docker build ${BASE:+--build-arg BASE="$BASE"} "${arguments[@]}" .
    docker image inspect --format "$tag: {{.Size}} bytes" "$tag"
    exit
fi
base=${BASE:-$(make_base)}
before=$(buildah images --quiet "$tag" 2>/dev/null || true)
buildah bud --build-arg BASE="$base" "${arguments[@]}" .
[ -z "$before" ] || [ "$before" = "$(buildah images --quiet "$tag")" ] || buildah rmi "$before" >/dev/null
./tools/check_image.sh "$tag"
