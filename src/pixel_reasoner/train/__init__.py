"""Training with TRL: one TOML file per run.

TRL sends telemetry of each run over the network; this package disables it.
"""

import os
import warnings

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # its version is pinned
warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|trl")
