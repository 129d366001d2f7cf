"""Media: decoding within limits, frame sampling, resizing, and the numbered images of a rollout."""
