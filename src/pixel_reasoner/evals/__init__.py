"""How well a model answers, and what its looks were worth."""
