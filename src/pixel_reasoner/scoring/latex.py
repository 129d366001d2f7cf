r"""LaTeX to plain text, for answers of models. Every pattern is linear in the length of the text.

Covered: text and font commands, fractions, powers, spaces, escaped signs, mathematical delimiters. Everything else is unchanged.
"""

from __future__ import annotations

import re
import unicodedata

MAX_NORMALISED_CHARS = 8192
"""A longer text is returned unchanged: NFKC expands some characters to 18 letters."""
_MAX_NESTED_FONTS = 4
_FONT = re.compile(r"\\(?:text|math|operatorname|underline|emph|mbox)[a-z]{0,6}\s*\{([^{}]*)\}")
_ARGUMENT = r"\s*(?:\{([^{}]*)\}|(\w))"
_FRACTION = re.compile(rf"(\d?)\\[dtc]?frac{_ARGUMENT}{_ARGUMENT}")
_POWER = re.compile(r"\^\s*\{\s*([^{}]*)\}")
_COMMANDS = (
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\(?:left|right|displaystyle)(?![a-z])|\\[()\[\]]"), ""),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-z])"), "×"),
    (re.compile(r"\\(?:approx|sim|simeq)(?![a-z])"), "≈"),
    (re.compile(r"\^\s*\\circ(?![a-z])|\\(?:degree|circ)(?![a-z])"), "°"),
    (re.compile(r"\\(?:[,;:! ]|q?quad(?![a-z]))"), " "),
    (re.compile(r"\\([%$#&_{}])"), r"\1"),
)
# Pandoc's rule for mathematics: no blank inside either dollar sign, no digit after the second.
_DOLLARS = re.compile(r"(?<![\w\\$])\$(?![\s$])([^$\n]*)(?<![\s\\])\$(?![\d$])")
_VULGAR_FRACTION = re.compile(r"(\d?)([¼-¾⅐-⅞])")
_SUPERSCRIPT = re.compile(r"(?<=\d)([⁺⁻]?[⁰¹²³⁴-⁹]+)")


def latex_to_text(text: str) -> str:
    r"""Return a text without LaTeX, in the Unicode form NFKC.

    >>> latex_to_text(r"$1\frac{1}{2}$"), latex_to_text(r"\textbf{(D)}\ x"), latex_to_text("1½ × 10⁸")
    ('1 1/2', '(D) x', '1 1/2 × 10^8')
    """
    if len(text) > MAX_NORMALISED_CHARS:
        return text
    if "$" in text:
        text = _DOLLARS.sub(r"\1", text)
    if "\\" in text or "{" in text:
        text = _without_commands(text)
    if not text.isascii():
        text = _VULGAR_FRACTION.sub(_spaced, text)
        text = _SUPERSCRIPT.sub(r"^\1", text)
        text = unicodedata.normalize("NFKC", text).replace("\u2044", "/")
    return text


def _without_commands(text: str) -> str:
    text = _COMMANDS[0][0].sub(_COMMANDS[0][1], text)
    for _ in range(_MAX_NESTED_FONTS):
        text, count = _FONT.subn(r"\1", text)
        if not count:
            break
    text = _FRACTION.sub(_fraction, text)
    for pattern, replacement in _COMMANDS[1:]:
        text = pattern.sub(replacement, text)
    return _POWER.sub(r"^\1", text).replace("^°", "°")


def _fraction(match: re.Match[str]) -> str:
    whole, *parts = match.groups(default="")
    above, below = (_factor(one or other) for one, other in (parts[:2], parts[2:]))
    return f"{whole} {above}/{below}" if whole else f"{above}/{below}"


def _factor(text: str) -> str:
    text = text.strip()
    return text if re.fullmatch(r"[\w.,]*", text) else f"({text})"


def _spaced(match: re.Match[str]) -> str:
    return f"{match[1]} {match[2]}" if match[1] else match[2]
