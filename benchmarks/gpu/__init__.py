"""Measurements on one GPU: `runs/gpu.sh`. `run` starts the parts, `parts` contains them, `vllm_speed` runs in vLLM's environment."""
