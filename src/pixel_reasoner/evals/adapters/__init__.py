"""Our benchmarks and our loop in the harnesses of others; each needs its own extra, and its own environment."""
