"""Video files made from moments: cuts, reframed and redacted clips, still pictures."""
