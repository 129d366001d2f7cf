"""Moments in video: search, spans with exact times, exports for editors, cuts, reframing and redaction."""
