#!/usr/bin/env bash
# The embedded model from nothing, and the figures in its card. About two hours on two cores.
# Killed? Run it again: every stage and every evaluation goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-runs/tiny}
tool=.venv/bin/pixel-reasoner

$tool train tiny --out "$out"

for family in attribute video; do
  $tool eval pixelworld --family $family --split test --count 500 --model "$out/model" \
    --out "$out/eval-$family"
  $tool eval pixelworld --family $family --split test --count 500 --model "$out/model" \
    --no-operations --out "$out/eval-$family-without"
  $tool report "$out/eval-$family" --out "$out/eval-$family.html" --limit 100
done

.venv/bin/python runs/figures.py "$out"
