"""Assertions about error messages of the command line."""

from __future__ import annotations


def assert_refused(result: tuple[int, str, str], *words: str) -> None:
    """Assert exit code 2 and one message with the expected value, the actual value and the fix."""
    code, out, err = result
    assert code == 2, err
    assert not out
    assert "Traceback" not in err
    assert "expected" in err
    assert "got" in err
    assert "Fix:" in err
    for word in words:
        assert word in err, err
