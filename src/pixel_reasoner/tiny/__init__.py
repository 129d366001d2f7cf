"""Bundled model: built, trained and shipped by this project as an ordinary `from_pretrained` folder."""
