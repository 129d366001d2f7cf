"""Call syntaxes: text encodings of tool calls, one codec per file."""
