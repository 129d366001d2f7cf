#!/usr/bin/env bash
# A 7B model through both phases on a machine with 8 GPUs of 80 GiB: traces, warm start, RL. `runs/tiny.sh` differs in paths alone.
#
#   LABELLER=http://localhost:8000/v1 LABELLER_MODEL=NAME DATA=/data bash runs/full.sh
#
# DATA holds what was downloaded: SA-1B (sa1b/), FineWeb-VISA (visa/), STAR with the Charades videos (star/) and
# PixelReasoner-RL-Data (rl/). LABELLER is an OpenAI-compatible vision server that writes questions about the regions of SA-1B, and
# LABELLER_MODEL the name of its model. VLLM is the command of vLLM 0.32 (vllm), of an environment of its own. WORKERS (8) processes
# write traces; GPUS (8) is for the plan.
# Killed? Run it again: every step goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${DATA:?folder of the data sets}" "${LABELLER:?address of the labeller}" "${LABELLER_MODEL:?name of its model}"

out=runs/full
tool=.venv/bin/pixel-reasoner
launch=".venv/bin/torchrun --nproc_per_node gpu -m pixel_reasoner.cli"
model=Qwen/Qwen2.5-VL-7B-Instruct
workers=${WORKERS:-8}

$tool synth sa1b --data "$DATA/sa1b" --labeller "$LABELLER" --labeller-model "$LABELLER_MODEL" \
  --count 4000 --model "$model" --workers "$workers" --out "$out/sa1b"
$tool synth visa --data "$DATA/visa" --count 1500 --model "$model" --workers "$workers" --out "$out/visa"
$tool synth star --data "$DATA/star" --count 2000 --model "$model" --workers "$workers" --out "$out/star"
for traces in sa1b visa star; do $tool check "$out/$traces"; done

$launch train sft runs/sft-7b.toml

ln -sfn "$DATA/rl" "$out/rl-data"
$tool train rl runs/rl-7b.toml --plan --gpus "${GPUS:-8}"
VLLM_SERVER_DEV_MODE=1 "${VLLM:-vllm}" serve "$out/sft/model" --host 127.0.0.1 --port 8000 --dtype bfloat16 \
  --tensor-parallel-size "${GPUS:-8}" --gpu-memory-utilization 0.35 --enable-sleep-mode --enable-scale-out \
  --logprobs-mode processed_logprobs --limit-mm-per-prompt '{"image": 64, "video": 0}' > "$out/vllm.log" 2>&1 &
server=$!
trap 'kill $server 2> /dev/null || true' EXIT
until curl -sf http://127.0.0.1:8000/health || ! kill -0 $server 2> /dev/null; do sleep 5; done
$launch train rl runs/rl-7b.toml
$tool report "$out/rl" --out "$out/rl.html"
