"""Measurement of training: seconds, tokens, FLOPs, memory and stalls."""
