"""What the command line must say when it refuses."""

from __future__ import annotations


def assert_refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2 and one message that says what was expected, what came, and the fix."""
    code, out, err = result
    assert code == 2, err
    assert not out
    assert "Traceback" not in err
    assert "expected" in err
    assert "got" in err
    assert "Fix:" in err
    for word in words:
        assert word in err, err
