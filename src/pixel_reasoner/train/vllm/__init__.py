"""vLLM servers that generate the rollouts of a run."""
