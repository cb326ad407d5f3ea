#!/usr/bin/env bash
# Runs all checks and benchmarks on a machine with an H200: correctness, same bytes under load, speed.
#
#     bench/h200.sh [--smoke] [STAGE...]      all stages, or those named
#
# Every successful stage writes bench/results/h200-*.json; the last one writes their tables to
# bench/results/h200.md. If $OUT is a folder, all of them are also packed into $OUT/h200.tar. The
# status is 1 if a stage failed; the other stages still run. Packages that the machine lacks come
# from build/gpu-packages.tar.xz (bench/wheels.sh). --smoke takes a minute and needs no GPU: it tests
# that every stage runs, and stores nothing.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$(command -v .venv/bin/python || command -v python3)}
export PYTHONUNBUFFERED=1

smoke=() sd15=sd15 sdxl=sdxl
if [ "${1:-}" = --smoke ]; then smoke=(--smoke) sd15=bundled128 sdxl=bundled128; shift; fi

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if [ -z "${smoke[*]}" ] && [ -f build/gpu-packages.tar.xz ]; then
  tar -xJf build/gpu-packages.tar.xz -C "$site"
  export PYTHONPATH="$PWD:$site"
fi

failed=()
# run LABEL SECONDS PROGRAM [ARGUMENT...]: a benchmark, whose result is stored under the label.
run() {
  local label=$1 limit=$2 program=$3
  shift 3
  echo "== $program $* ($label)"
  local keep=(--label "$label")
  [ -z "${smoke[*]}" ] || keep=()
  timeout "$limit" "$python" -m bench "$program" "$@" "${smoke[@]}" "${keep[@]}" \
    || failed+=("$program $* ($label)")
}

# The tests of kernels, graphs and FP8 on the GPU. A kernel that does not support some inputs may
# warn, which is not a failure here.
tests() {
  timeout 240 "$python" -m pytest -q -p no:cacheprovider -W default tests/models/cuda \
    --ignore tests/models/cuda/test_h200.py tests/models/networks/test_attention.py || failed+=(tests)
}

correctness() { run h200 300 correctness; }

sd15() {
  run h200 200 offline --workload $sd15 --slots 16 --images 128
  DARKROOM_WORKER_TUNE_S=180 run h200-compiled 300 offline --workload $sd15 --slots 16 --images 128
  DARKROOM_WORKER_PRECISION=fp8 run h200-fp8 200 offline --workload $sd15 --slots 16 --images 128
  DARKROOM_WORKER_SAME_BYTES=false run h200-any-bytes 200 offline --workload $sd15 --slots 16 \
    --images 128
}

sdxl() {
  run h200 300 offline --workload $sdxl --slots 8 --images 32
  DARKROOM_WORKER_PRECISION=fp8 run h200-fp8 300 offline --workload $sdxl --slots 8 --images 32
}

components() {
  run h200 200 components --workload $sd15
  run h200 300 components --workload $sdxl
}

peers() {
  run h200 300 peers --workload $sd15 --rounds 3
  run h200 400 peers --workload $sdxl --rounds 2
}

online() {
  run h200 500 online --workload $sd15 --slots 16 --seconds 20 --loads 0.6 0.8 1
  run h200 500 online --workload $sdxl --slots 8 --seconds 30 --loads 0.8 1
}

overhead() { run h200 120 overhead; }

same_bytes() { run h200 200 same_bytes --requests 100; }

all=(tests correctness sd15 sdxl components peers overhead same_bytes online)
[ $# -gt 0 ] || set -- "${all[@]}"
for stage; do
  case " ${all[*]} " in
    *" $stage "*) "$stage" ;;
    *) echo "no stage $stage; stages: ${all[*]}" >&2; exit 2 ;;
  esac
done

if [ -z "${smoke[*]}" ]; then
  # offline-sd15-h200-fp8.json -> h200-offline-sd15-fp8.json
  for file in bench/results/*-h200*.json; do
    [ -e "$file" ] || continue
    stem=$(basename "$file" .json)
    mv "$file" "bench/results/h200-${stem%%-h200*}${stem#*-h200}.json"
  done
  "$python" -m bench.common.summary h200 >bench/results/h200.md || failed+=(summary)
  [ -z "${OUT:-}" ] || tar -cf "$OUT/h200.tar" -C bench/results $(cd bench/results && ls | grep '^h200')
fi

[ -z "${failed[*]}" ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
