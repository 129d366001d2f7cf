#!/usr/bin/env bash
# Installs a wheel in a new environment outside the repository and runs ask, eval, report and train sft.
#
#     bash dev/test_dist.sh dist/pixel_reasoner-0.1.0-py3-none-any.whl
#
# It takes minutes and 8 GB of disk: torch is installed.
set -euo pipefail

wheel=$(realpath "$1")
constraints=$(realpath "$(dirname "$0")/../constraints.txt")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"${PYTHON:-python3}" -m venv venv
venv/bin/python -m pip install --quiet --constraint "$constraints" "$wheel[local,train]"
tool=venv/bin/pixel-reasoner

$tool doctor
$tool world render --count 1 --out scene
$tool ask "Which letter is on the red circle?" --image scene/media/*.png --report ask.html
$tool eval pixelworld --count 4 --out eval
$tool report eval --out eval.html
$tool synth pixelworld --count 8 --out synth
cat > run.toml <<'TOML'
traces = "synth"
out = "sft"

[trl]
max_steps = 2
per_device_train_batch_size = 2
TOML
$tool train sft run.toml
$tool ask "Which letter is on the red circle?" --image scene/media/*.png --model sft/model

test -s ask.html
test -s eval.html
venv/bin/python -c 'import pixel_reasoner, pathlib; assert "site-packages" in str(pathlib.Path(pixel_reasoner.__file__))'
echo "The wheel works: $wheel"
