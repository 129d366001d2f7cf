#!/usr/bin/env bash
# llama.cpp with the bundled model, from a checkout with llama-server built in build/:
#   git clone https://github.com/ggml-org/llama.cpp && cd llama.cpp
#   cmake -B build -DLLAMA_BUILD_TESTS=OFF && cmake --build build --target llama-server -j
#   LLAMA_CPP=$PWD tests/servers/llamacpp.sh [PORT]        ready after some seconds; stop it with Ctrl-C
# KV cache in 32 bits, and no resizing of small pictures: by default, Qwen3-VL pictures of fewer than 8 visual tokens are enlarged.
set -euo pipefail
: "${LLAMA_CPP:?the folder of a llama.cpp checkout with build/bin/llama-server}"
LLAMA_CPP=$(cd "$LLAMA_CPP" && pwd)
export LLAMA_CPP
cd "$(dirname "$0")/../.."
port=${1:-8003}
out=runs/servers/llamacpp
if [ ! -e $out/tiny-mmproj.gguf ]; then
  .venv/bin/python tests/servers/gguf.py $out
fi
exec "$LLAMA_CPP/build/bin/llama-server" --model $out/tiny.gguf --mmproj $out/tiny-mmproj.gguf \
  --alias "$PWD/src/pixel_reasoner/tiny/weights" --host 127.0.0.1 --port "$port" \
  --jinja --chat-template-file tests/servers/native.jinja --image-min-tokens 4 \
  --ctx-size 16384 --parallel 4 --cache-type-k f32 --cache-type-v f32 --flash-attn off
