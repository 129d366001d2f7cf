"""Evaluation: benchmarks, runs, metrics, and comparison of runs."""
