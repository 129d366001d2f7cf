"""Results of all families, in `dev/families.json`; `docs/generate.py` writes the table of docs/families.md from it.

    PYTHONPATH=benchmarks python -m families.record                 # all families, minutes on two cores
    PYTHONPATH=benchmarks python -m families.record gemma3 glm4v    # some of them; the others stay

A step is `passed`, or the reason why it was refused. After any other error the family keeps its former result, and the exit code is 1.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from families import RECIPES, Recipe, build_folder
from families.checks import (
    ask_about_clip,
    ask_together,
    ask_with_zooms,
    load,
    pictures_that_reach_the_model,
    visual_tokens,
)
from families.recipe import LLAMA4, TEMPLATES
from families.steps import rl_step, sft_step
from pixel_reasoner.errors import ModelError
from pixel_reasoner.files import write_json
from pixel_reasoner.models.check_model import check_model
from pixel_reasoner.world import encode_clip

RESULTS = Path(__file__).parents[2] / "dev" / "families.json"
PASSED = "passed"


def results_of(recipe: Recipe, folder: Path, photo: Path, clip: Path) -> dict[str, Any]:
    """Return the results of one family.

    Args:
        recipe: of the model folder.
        folder: an empty folder for models and runs.
        photo: a picture.
        clip: a clip.
    """
    started = time.process_time()
    path = build_folder(recipe, folder / recipe.model_type)
    model = load(path)
    check = check_model(str(path), dialect=model.dialect)
    assert not check.problems, check.problems
    return {
        "dialect": model.dialect,
        "architecture": check.architecture,
        "template": template_source(recipe),
        "video": "processor" if hasattr(model.processor, "video_processor") else "none",
        "engine": model.is_supported_by_engine,
        "ask": _step(lambda: _check_ask(model, photo, clip)),
        "sft": _step(lambda: _check_sft(path, photo, folder / "sft")),
        "rl": _step(lambda: _check_rl(path, photo, folder / "rl")),
        "cpu_s": round(time.process_time() - started, 1),
    }


def template_source(recipe: Recipe) -> str:
    """Return where the chat template of a recipe is from."""
    name = recipe.template or f"{recipe.model_type}.jinja"
    if name == LLAMA4:
        return "transformers"
    own = "stand-in" if (TEMPLATES / name).exists() else "TRL"
    return f"{own}: {name.removesuffix('.jinja')}"


def _step(run: Callable[[], None]) -> str:
    try:
        run()
    except ModelError as refused:
        reason = refused.got.partition(", ")[2] or refused.got
        return f"refused: {reason.replace('whose', 'its')}"
    return PASSED


def _check_ask(model: Any, photo: Path, clip: Path) -> None:
    trace, prompt = ask_with_zooms(model, photo)
    assert [len(turn.observations[0].pictures) for turn in trace.turns[:2]] == [1, 1]
    assert all(pictures_that_reach_the_model(model, prompt))
    found, expected = visual_tokens(model, prompt)
    assert found == expected > 0
    ask_about_clip(model, clip)
    single, batched = ask_together(model, photo)
    assert single == batched


def _check_sft(path: Path, photo: Path, out: Path) -> None:
    step = sft_step(path, photo, out)
    assert math.isfinite(step.loss)
    assert step.changed > 0


def _check_rl(path: Path, photo: Path, out: Path) -> None:
    step = rl_step(path, photo, out)
    assert step.changed > 0
    assert max(step.differences) < 1e-4


def main(names: list[str]) -> None:
    warnings.filterwarnings("ignore")
    rows: dict[str, Any] = {}
    failed: list[str] = []
    if names and RESULTS.exists():
        rows = json.loads(RESULTS.read_text(encoding="utf-8"))["families"]
    with tempfile.TemporaryDirectory() as place:
        top = Path(place)
        photo, clip = _media(top)
        for name in names or RECIPES:
            recipe = RECIPES[name]
            missing = [one for one in recipe.needs if importlib.util.find_spec(one) is None]
            if missing:
                print(f"{name}: not run, without {', '.join(missing)}", flush=True)
                continue
            folder = top / "run"
            try:
                rows[name] = results_of(recipe, folder, photo, clip)
                print(name, rows[name], flush=True)
            except Exception:  # noqa: BLE001 - the other families are still recorded
                traceback.print_exc()
                failed.append(name)
            shutil.rmtree(folder)
    packages = ("torch", "transformers", "trl")
    write_json(
        {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}",
            "versions": {one: importlib.metadata.version(one) for one in packages},
            "families": {name: rows[name] for name in RECIPES if name in rows},
        },
        RESULTS,
    )
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _media(folder: Path) -> tuple[Path, Path]:
    pixels = np.random.default_rng(7).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    shades = [Image.new("RGB", (96, 64), (shade, shade, shade)) for shade in range(10, 250, 20)]
    (folder / "clip.mp4").write_bytes(encode_clip(shades))
    return folder / "photo.png", folder / "clip.mp4"


if __name__ == "__main__":
    main(sys.argv[1:])
