"""Untrusted text is displayed without effect, on terminals and in pages."""

from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given, strategies as st

from pixel_reasoner.cli.output import print_line, warn
from pixel_reasoner.text import visible

ANY_TEXT = st.text(st.characters(exclude_categories=()))
HOSTILE = (
    "a\x00\x1b]0;title\x07\x1b[2J\u202egnp.exe\u2066 \x9b31m \ud800 [bold]b[/] [/nothing] :smile:"
)


@given(ANY_TEXT)
def test_visible_text_has_no_control_characters_and_can_be_encoded(text):
    safe = visible(text)
    safe.encode()
    kinds = {unicodedata.bidirectional(c) for c in safe if unicodedata.category(c) == "Cf"}
    assert not kinds & {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert {c for c in safe if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}
    assert visible(safe) == safe


def test_ordinary_text_of_any_script_is_not_changed():
    for text in ("plain\n\ttext", "Grüße ½ 中文 עברית العربية हिन्दी", "👩‍👧 🏳️‍🌈 e\u0301 a\u200cb"):
        assert visible(text) == text


def test_a_terminal_gets_no_escapes_and_no_markup(capsys):
    print_line(HOSTILE, (HOSTILE, "bold"))
    warn(HOSTILE)
    printed = capsys.readouterr()
    assert printed.out == visible(HOSTILE) * 2 + "\n"
    assert printed.err == visible(HOSTILE) + "\n"


@pytest.mark.medium
def test_error_messages_contain_only_visible_characters(tmp_path):
    name = str(tmp_path / "gone\x1b[2J\u202e")
    command = [sys.executable, "-m", "pixel_reasoner.cli", "check", name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "gone␛[2J⟨U+202E⟩" in done.stderr
    assert "\x1b" not in done.stderr
