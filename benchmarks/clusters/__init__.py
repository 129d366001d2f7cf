"""Executed cluster paths: `make clusters` runs all of them on this machine and prints one table.

Each module runs one part and writes `dev/clusters/<part>.json` (`record`). `docs/clusters.md` is generated from these files.

    python -m clusters.vllm        (with PYTHONPATH=benchmarks)
"""
