"""Attacks on the product: hostile files, replies, servers, folders, kills and full disks. `make attack` runs all."""
