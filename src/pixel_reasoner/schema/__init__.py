"""Records of the project: boxes, questions, settings and traces."""
