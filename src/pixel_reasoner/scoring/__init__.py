"""Scoring: answer extraction, grading, evidence metrics and rewards."""
