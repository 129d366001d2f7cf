"""Training data: seeds (annotated questions) -> expert traces -> checked traces."""
