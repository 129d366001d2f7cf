"""Escaping of untrusted text for display."""

from __future__ import annotations

import re

# Control characters except tab and newline, bidirectional and other invisible format characters, half surrogates. Zero
# width joiners stay: emoji and several scripts need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""Return a text with invisible characters replaced by visible ones.

    NUL, terminal escapes and bidirectional marks are displayed and have no effect. The result is always valid Unicode.

    >>> visible("a\x00\x1b[2J\u202eb \ud800")
    'a␀␛[2J⟨U+202E⟩b ⟨U+D800⟩'
    """
    return _INVISIBLE.sub(_symbol, text.replace("\r\n", "\n"))


def _symbol(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the block of control pictures has the order of ASCII
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "video"), counted(2000, "video")
    ('1 video', '2,000 videos')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
