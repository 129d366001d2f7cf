"""Sources of questions: public data sets, own rows and PixelWorld (`sources.base`)."""
