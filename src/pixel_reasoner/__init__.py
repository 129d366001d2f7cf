"""Let vision-language models look again: zoom into pictures and select frames while they reason."""

__version__ = "0.1.0"
