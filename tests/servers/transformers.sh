#!/usr/bin/env bash
# `transformers serve` with the bundled model, in a separate environment.
#   tests/servers/transformers.sh [PORT]        ready after about ten seconds; stop it with Ctrl-C
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.venv-serve
port=${1:-8002}
if [ ! -e $venv/.installed ]; then
  "${PYTHON:-python3}" -m venv $venv
  $venv/bin/python -m pip install --quiet --constraint constraints.txt 'transformers[serving]' torch torchvision pillow
  touch $venv/.installed
fi
export HF_HUB_OFFLINE=1
exec $venv/bin/transformers serve "$PWD/src/pixel_reasoner/tiny/weights" --device cpu --dtype float32 --host 127.0.0.1 --port "$port"
