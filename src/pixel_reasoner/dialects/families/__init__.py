"""Dialects of model families: one file each, which registers its dialect. Adding one touches one file."""
