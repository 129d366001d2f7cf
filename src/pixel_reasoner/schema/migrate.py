"""Migration of records written by older versions.

Each function converts the JSON fields of one record from schema version 1 to version 2. Values that version 1 did not
record stay empty. The parts of a turn contain only its call. Frame sampling is derived from the pictures.
"""

from __future__ import annotations

from typing import Any

_SETTINGS = {
    "decoding": "sampling",
    "decode": "media",
    "disturb": "perturb",
    "synth": "synthesis",
}
"""renamed settings: version 1 -> version 2"""


def settings_v1(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert run settings from version 1 to version 2.

    >>> settings_v1({"operations": False, "disturb": True, "model": {"name": "tiny", "class": "X"}})
    {'operations': [], 'perturb': True, 'model': {'name': 'tiny', 'architecture': 'X'}}
    """
    migrated = {_SETTINGS.get(name, name): value for name, value in fields.items()}
    if isinstance(migrated.get("operations"), bool):
        offered = migrated.pop("operations")
        migrated = migrated if offered else {"operations": [], **migrated}
    model = migrated.get("model")
    if isinstance(model, dict) and "class" in model:
        names = {"class": "architecture"}
        migrated["model"] = {names.get(name, name): value for name, value in model.items()}
    return migrated


def trace_v1(fields: dict[str, Any]) -> dict[str, Any]:
    """Convert a trace from version 1 to version 2."""
    migrated = dict(fields)
    if isinstance(migrated.get("turns"), list):
        migrated["turns"] = [_turn_v1(turn) for turn in migrated["turns"]]
    if isinstance(migrated.get("settings"), dict):
        migrated["settings"] = settings_v1(migrated["settings"])
    return migrated


def _turn_v1(turn: Any) -> Any:
    if not isinstance(turn, dict):
        return turn
    migrated = dict(turn)
    call, observation = migrated.pop("call", None), migrated.pop("observation", None)
    if call is not None:
        migrated["parts"] = [call]
    if isinstance(observation, dict):
        renamed = dict(observation)
        if "refusal" in renamed:
            renamed["error"] = renamed.pop("refusal")
        migrated["observations"] = [renamed]
    return migrated
