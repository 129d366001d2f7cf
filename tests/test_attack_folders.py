"""Short form of `attacks/folders.py`: commands on hostile folders."""

from __future__ import annotations

import pytest
from attacks.folders import QUICK, attack


@pytest.mark.medium
def test_commands_on_hostile_folders_end_with_a_result_or_one_message():
    counts, failed, _, named = attack(14, seed=7, commands=QUICK)
    assert counts.total() == 14
    assert not failed, named
