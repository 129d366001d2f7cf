#!/bin/bash
# Measurements on one H100 or H200, at most nine minutes: the engine next to vLLM at 3B and 7B shapes, MFU of SFT at 7B,
# phases of RL at 3B, memory of RL with a LoRA at 7B. Random weights; writes dev/gpu/*.json and prints a table.
#
#   runs/gpu.sh                                   # on a GPU; needs 40 GB of disk for the models
#   VLLM_PYTHON=/path/to/python runs/gpu.sh       # an interpreter with vLLM
#   runs/gpu.sh --dry                             # all parts with toy shapes on the CPU
#   runs/gpu.sh sft_7b_lora rl_3b build_7b        # some parts
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)}
export PYTHONPATH="src:benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
exec "$PYTHON" -m gpu.run "$@"
