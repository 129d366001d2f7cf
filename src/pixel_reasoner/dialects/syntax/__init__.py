"""Call syntaxes: how the calls of a turn are written as text. One codec per file."""
