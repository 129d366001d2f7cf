"""Robustness tests: hostile files, replies, servers and folders, kills and full disks. `make attack` runs all."""
