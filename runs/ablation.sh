#!/usr/bin/env bash
# What each part of the method does: seven arms from a clumsy warm start, four from the good one, three seeds each.
# Hours on two cores. Killed? Run it again: every arm goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

.venv/bin/python runs/ablation.py run "$@"
.venv/bin/python runs/ablation.py render
