#!/usr/bin/env bash
# The bundled model from nothing, and the figures in its card: seeds, traces, check, training, evaluation, report.
# About six hours on two cores. Killed? Run it again: every step goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-runs/tiny}
tool=.venv/bin/pixel-reasoner

# A crop is as large as the training crops of the tower; half of the answers need none.
$tool synth pixelworld --count 60000 --per-scene 4 --text-share 0.4 --margin 0 --min-side 0.18 \
  --workers 2 --out "$out/synth"
$tool synth pixelworld --world 2 --count 60000 --per-scene 4 --text-share 0.5 --margin 0 --min-side 0.18 \
  --workers 2 --out "$out/synth2"
$tool check "$out/synth"
$tool check "$out/synth2"
$tool train tiny --traces "$out/synth" --traces "$out/synth2" --out "$out"

$tool eval pixelworld --family all --split test --count 500 --model "$out/model" --disturb --out "$out/eval"
$tool eval pixelworld --family all --split test --count 500 --model "$out/model" --no-operations \
  --out "$out/eval-without"
$tool eval pixelworld --world 2 --family all --split test --count 504 --model "$out/model" --out "$out/eval2"
$tool eval pixelworld --world 2 --family all --split test --count 504 --model "$out/model" --no-operations \
  --out "$out/eval2-without"
$tool report "$out/eval" --out "$out/eval.html" --limit 100
$tool report "$out/eval2" --out "$out/eval2.html" --limit 100

.venv/bin/python runs/figures.py "$out"
