"""Training with TRL: one TOML file a run.

TRL reports each run to its makers over the network; a product that says it needs none does not.
"""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
