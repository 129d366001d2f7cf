"""Rollouts of the policy in training: generators and what generates their turns."""
