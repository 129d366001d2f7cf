"""Rollouts: the loop of generation and operations, for one question or for many."""
