"""Training data: annotated questions (source rows) -> expert traces -> checked traces."""
