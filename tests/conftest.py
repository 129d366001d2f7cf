"""Fixtures: generated media, a scripted model, and the command line."""

from __future__ import annotations

import gc
import io
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from pixel_reasoner import cli
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.world import encode_clip

settings.register_profile("shared machine", deadline=None, max_examples=50)
settings.register_profile("fast", deadline=None, max_examples=10)
settings.load_profile("shared machine")


NEED_EXTRAS = (
    "test_ablation.py",
    "test_check_model.py",
    "test_engine.py",
    "test_engine_families.py",
    "test_engine_requests.py",
    "test_families.py",
    "test_hub.py",
    "test_lesson_pages.py",
    "test_lessons.py",
    "test_local.py",
    "test_local_backend.py",
    "test_pages.py",
    "test_plan.py",
    "test_preemption.py",
    "test_random_folders.py",
    "test_remote.py",
    "test_server_bundled.py",
    "test_server_environments.py",
    "test_server_vllm.py",
    "test_sft_mask.py",
    "test_sharding.py",
    "test_throughput.py",
    "test_tiny.py",
    "test_train_async.py",
    "test_train_counterfactuals.py",
    "test_train_distributed.py",
    "test_train_rl.py",
    "test_train_sft.py",
    "test_train_vllm.py",
    "test_trl_options.py",
    "test_verl.py",
    "test_writers.py",
)
"""files whose tests need the extras `local` and `train` (torch, transformers, TRL) or a browser"""
MEDIUM_FILES = (
    "test_compare.py",
    "test_formats.py",
    "test_invalid_extensions.py",
    "test_labeller.py",
    "test_mcp.py",
    "test_moments_clips.py",
    "test_moments_search.py",
    "test_probe.py",
    "test_server_chat.py",
    "test_server_clients.py",
    "test_server_connections.py",
    "test_server_load.py",
    "test_server_mcp.py",
    "test_server_process.py",
    "test_server_safety.py",
    "test_server_spans.py",
    "test_server_traces.py",
    "test_strip.py",
    "test_survey.py",
    "test_turn_parser.py",
    "test_worker_pool.py",
    "test_world_moments.py",
)
"""files of which most tests wait for processes or servers, or try thousands of texts"""
LONGEST_FILES = (
    "test_families.py",
    "test_train_rl.py",
    "test_mcp.py",
    "test_strip.py",
    "test_pages.py",
    "test_tiny.py",
    "test_train_sft.py",
    "test_train_vllm.py",
    "test_server_process.py",
    "test_server_chat.py",
    "test_labeller.py",
    "test_server_traces.py",
    "test_remote.py",
    "test_engine.py",
    "test_expert.py",
    "test_doc_blocks.py",
    "test_server_bundled.py",
    "test_studio_states.py",
)
"""files of eight seconds or more, longest first"""
TESTS = Path(__file__).parent


class WithoutExtras(PathFinder):
    """Finder that does not find the packages of the extras `local` and `train`, also if they are installed."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "trl"):
            return None
        return super().find_spec(name, path, target)


def pytest_addoption(parser):
    parser.addoption(
        "--fast",
        action="store_true",
        help="leave out medium and slow tests and those that need the extras `local` and `train`",
    )


def pytest_configure(config):
    if config.getoption("fast"):
        settings.load_profile("fast")
        config.option.doctest_ignore_import_errors = True
        finders = (WithoutExtras if one is PathFinder else one for one in sys.meta_path)
        sys.meta_path[:] = finders


def pytest_ignore_collect(collection_path, config):
    if config.getoption("fast") and collection_path.parent == TESTS:
        return collection_path.name in NEED_EXTRAS + MEDIUM_FILES or None
    return None


def pytest_collection_modifyitems(config, items):
    # Run the longest files first, so that the processes end at about the same time.
    ranks = {name: rank for rank, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))
    if config.getoption("fast"):
        config.hook.pytest_deselected(items=[item for item in items if not _is_fast(item)])
        items[:] = filter(_is_fast, items)


def pytest_collection_finish(session):
    # Collected tests and imported packages stay until the end: the garbage collector does not need to visit them.
    gc.collect()
    gc.freeze()


def _is_fast(item) -> bool:
    is_training = "train" in item.path.parts  # examples in docstrings
    return not (is_training or any(map(item.get_closest_marker, ("medium", "slow", "extras"))))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> None:
    """Use a temporary cache for probe results of test servers."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


PHOTO_PX = (640, 480)
NUM_CLIP_FRAMES = 12


@cache
def _photo_bytes() -> bytes:
    width, height = PHOTO_PX
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@cache
def _clip_bytes() -> bytes:
    shades = [10 + 20 * number for number in range(NUM_CLIP_FRAMES)]
    return encode_clip([Image.new("RGB", (96, 64), (s, s, s)) for s in shades])


def draw_photo(path: Path) -> Path:
    """Write a PNG of noise: all regions are different."""
    path.write_bytes(_photo_bytes())
    return path


def draw_clip(path: Path) -> Path:
    """Write a clip with frames of increasing brightness."""
    path.write_bytes(_clip_bytes())
    return path


@contextmanager
def full_disk(after_bytes: int) -> Iterator[None]:
    """Simulate a full disk: a write beyond `after_bytes` of a file fails and truncates the file."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


@pytest.fixture
def photo(tmp_path) -> Path:
    return draw_photo(tmp_path / "photo.png")


@pytest.fixture
def clip(tmp_path) -> Path:
    return draw_clip(tmp_path / "clip.mp4")


@pytest.fixture
def scripted():
    """`scripted("first turn", "second turn")`"""
    return lambda *turns, **options: ScriptedModel(turns, **options)


@pytest.fixture
def run(capsys, monkeypatch):
    """Return a function that runs a command line in this process: (exit code, standard output, standard error)."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pixel-reasoner", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        return code, *capsys.readouterr()

    return command
