"""Training with TRL: one TOML file a run."""
