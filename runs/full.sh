#!/usr/bin/env bash
# A 7B model through both phases on a machine with 8 GPUs of 80 GiB: traces, warm start, RL. `runs/tiny.sh` differs in paths alone.
#
#   LABELLER=http://localhost:8000/v1 DATA=/data runs/full.sh
#
# DATA holds what was downloaded: SA-1B (sa1b/), FineWeb-VISA (visa/), STAR with the Charades videos (star/) and
# PixelReasoner-RL-Data (rl/). LABELLER is an OpenAI-compatible vision server that writes questions about the regions of SA-1B.
# Killed? Run it again: every step goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

out=runs/full
tool=.venv/bin/pixel-reasoner
launch=".venv/bin/accelerate launch --config_file ${CONFIG:-runs/cluster/fsdp2.yaml} -m pixel_reasoner.cli"
model=Qwen/Qwen2.5-VL-7B-Instruct

$tool synth sa1b --data "$DATA/sa1b" --labeller "$LABELLER" --count 4000 --model "$model" --workers 8 --out "$out/sa1b"
$tool synth visa --data "$DATA/visa" --count 1500 --model "$model" --workers 8 --out "$out/visa"
$tool synth star --data "$DATA/star" --count 2000 --model "$model" --workers 8 --out "$out/star"
for traces in sa1b visa star; do $tool check "$out/$traces"; done

$launch train sft runs/sft-7b.toml

ln -sfn "$DATA/rl" "$out/rl-data"
$tool train rl runs/rl-7b.toml --plan --gpus "${GPUS:-8}"
$launch train rl runs/rl-7b.toml
$tool report "$out/rl" --out "$out/rl.html"
