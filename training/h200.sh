#!/usr/bin/env bash
# Trains the bundled model on a machine with a GPU, for minutes, and measures it:
#
#     python -m training pack      where icons can be fetched; writes build/training-images.zip
#     training/h200.sh [--smoke]   on the GPU machine, with a copy of that file
#
# It trains the diffusion model further, distils it into a LoRA for four steps, then enlarges the first
# stage to 128 x 128, from the weights in models/bundled, in at most DIFFUSION_S, TURBO_S and
# ENLARGE_S seconds, after which a stage stops and writes what it has. If $OUT is a folder, the weights, logs and figures are copied there.
# --smoke takes two steps of each, needs no GPU, and stores nothing.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$(command -v .venv/bin/python || command -v python3)}
export PYTHONUNBUFFERED=1

work=var/gpu-training
enlarge_s=${ENLARGE_S:-120} diffusion_s=${DIFFUSION_S:-210} turbo_s=${TURBO_S:-60}
enlarge=(--steps 3000 --encoder-steps 1000 --batch 64)
diffusion=(--steps 6000 --batch 512)
turbo=(--steps 1000 --batch 256)
quick=()
if [ "${1:-}" = --smoke ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  enlarge=(--steps 2 --encoder-steps 2 --batch 2 --every 500)
  diffusion=(--steps 2 --batch 2 --every 500)
  turbo=(--steps 2 --batch 2 --every 500)
  quick=(--quick)
fi

failed=()
stage() {
  echo "== $*"
  "$python" -m "$@" || failed+=("$*")
}

stage training --work "$work" continue --seconds "$diffusion_s" "${diffusion[@]}"
model=$work/continued/model
[ -d "$model" ] || { mkdir -p "$work/continued" && cp -r models/bundled "$model"; }
stage training --work "$work" turbo --model "$model" --seconds "$turbo_s" "${turbo[@]}"
stage training --work "$work" enlarge --model "$model" --seconds "$enlarge_s" "${enlarge[@]}"
stage training.evaluate --work "$work" --model "$work/enlarged-model" "${quick[@]}" |
  tee "$work/evaluation.json"

if [ -n "${OUT:-}" ] && [ -z "${quick[*]}" ]; then
  tar -czf "$OUT/training.tar.gz" -C "$work" \
    $(cd "$work" && ls -d enlarged-model */log.jsonl evaluation/*.png evaluation.json \
      2>/dev/null)
fi

[ -z "${failed[*]}" ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
