"""Question sources: public data sets, own rows and PixelWorld."""
