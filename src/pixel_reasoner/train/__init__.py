"""Training with TRL: one TOML file a run.

TRL reports each run to its makers over the network; a product that says it needs none does not.
"""

import os
import warnings

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # its version is pinned
warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|trl")
