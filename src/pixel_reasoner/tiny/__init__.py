"""The embedded model: built, trained and shipped by this project; an ordinary `from_pretrained` folder."""
