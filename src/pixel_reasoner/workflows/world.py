"""PixelWorld files, and the size of their details for a model."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pixel_reasoner.dialects import DIALECTS, get_dialect
from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import atomic_writer
from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings, model_folder
from pixel_reasoner.models.hub import is_hub_id, local_model
from pixel_reasoner.runs.lock import FolderLock
from pixel_reasoner.schema.question import Question, with_media_root
from pixel_reasoner.schema.settings import PixelBudgets
from pixel_reasoner.workflows.progress import NoProgress, ProgressReporter
from pixel_reasoner.workflows.world2 import WORLDS, world2_questions, world2_source
from pixel_reasoner.world import (
    DEFAULTS,
    FAMILIES,
    Family,
    Scene,
    WorldParams,
    overview_detail_px,
    render,
    scenes as make_scenes,
)

DEMO_QUESTIONS: tuple[tuple[Family, bool], ...] = (
    ("attribute", True),
    ("relation", True),
    ("relation", False),
    ("count", True),
    ("infographic", True),
    ("video", True),
)
"""family of each question of the demo, and whether it needs an operation"""
DEMO_SCENES = 12
"""number of scenes per family to choose from for the demo"""


@dataclass(frozen=True)
class WorldSpec:
    """Scenes of PixelWorld, and their sizes.

    >>> [scene.id for scene in WorldSpec(count=2).scenes("video")]
    ['video-2000000', 'video-2000001']
    """

    family: str = "attribute"
    """a family; `all` or a comma-separated list if several are allowed"""
    split: str = "test"
    """train, validation or test"""
    seed: int = 0
    """number of the first scene within the split"""
    count: int = 10
    """scenes of each family"""
    size_px: int | None = None
    """side of the canvas; None: the default of the family"""
    detail_px: int | None = None
    """height of the decisive characters; None: the default of the family"""
    world: int = 1
    """version of the world, 1 or 2; the following fields belong to 2"""
    heights: tuple[int, ...] | None = None
    """heights of the evidence in overview pixels; None: all"""
    twins: bool = True
    """whether both twins of each scene are asked"""
    model: str = "tiny"
    """model, model folder or dialect whose overview sets the sizes, where no model is asked"""

    def __post_init__(self) -> None:
        """Reject an unknown world, and options of world 2 with world 1."""
        if self.world not in WORLDS:
            raise UsageError(
                expected=f"--world {' or '.join(map(str, WORLDS))}",
                got=str(self.world),
                fix="name one of these",
            )
        if self.world == 1 and (self.heights is not None or not self.twins):
            raise UsageError(
                expected="--heights and --no-twins with --world 2",
                got="one of them with --world 1",
                fix="add --world 2",
            )

    def params(self, family: str) -> WorldParams | None:
        """Return the sizes of a family; None for an unknown family."""
        sizes = {"size_px": self.size_px, "detail_px": self.detail_px}
        default = DEFAULTS.get(family)  # type: ignore[call-overload]
        given = {name: size for name, size in sizes.items() if size is not None}
        return default.model_copy(update=given) if default is not None else None

    def scenes(self, family: str) -> list[Scene]:
        """Return the scenes of a family.

        Raises:
            UsageError: an unknown family or split, or inconsistent sizes.
        """
        params = self.params(family)
        return make_scenes(family, self.split, self.seed, self.count, params)  # type: ignore[arg-type]


def render_world(spec: WorldSpec, out: Path, progress: ProgressReporter | None = None) -> Path:
    """Write the media of scenes and `questions.jsonl`, and return the path of that file.

    Raises:
        UsageError: an unknown family or split, or inconsistent sizes.
        OutputError: the folder cannot be written.
    """
    path = out / "questions.jsonl"
    questions: Iterator[Question]
    if spec.world == 1:
        questions = render(spec.scenes(spec.family), out)
    else:
        source = world2_source(spec, prompt_settings(spec.model)[1])
        list(source.units(out))  # fail before the first scene is rendered
        questions = world2_questions(source, out)
    update = (progress or NoProgress()).start("rendering", spec.count)
    with FolderLock(out), atomic_writer(path) as file:
        for number, question in enumerate(questions, start=1):
            file.write(question.to_line() + "\n")
            update(number)
    return path


def detail_px_in_overview(spec: WorldSpec, model: str) -> float:
    """Return the height in pixels of the decisive character in a model's overview.

    Raises:
        UsageError: neither a model nor a dialect.
        ModelError: a hub model whose settings cannot be downloaded.
    """
    _, budgets = prompt_settings(model)
    return overview_detail_px(spec.family, budgets, spec.params(spec.family))  # type: ignore[arg-type]


def prompt_settings(model: str) -> tuple[str, PixelBudgets]:
    """Return dialect and pixel budgets of a bundled model, a model folder, a hub model, or a dialect.

    For a hub model only the settings files are downloaded.

    Raises:
        UsageError: neither a model nor a dialect.
        ModelError: a hub model whose settings cannot be downloaded.
    """
    if model in DIALECTS:
        return model, get_dialect(model).budgets
    if not model_folder(model).is_dir() and not is_hub_id(model):
        near = difflib.get_close_matches(model, [*BUNDLED_MODELS, *DIALECTS], 1, 0.7)
        raise UsageError(
            expected=f"a model folder, a hub id owner/name, {', '.join([*BUNDLED_MODELS, *DIALECTS])}",
            got=repr(model),
            fix=f"did you mean {near[0]!r}?" if near else "name one of these",
        )
    settings = folder_settings(local_model(model, settings_only=True))
    dialect = get_dialect(settings.dialect)
    return dialect.name, settings.budgets or dialect.budgets


def parse_families(text: str) -> tuple[Family, ...]:
    """Return the families in a comma-separated list; `all` means all but those for single operations.

    Raises:
        UsageError: an unknown family.

    >>> parse_families("video,count,video")
    ('video', 'count')
    """
    names = FAMILIES if text == "all" else tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in DEFAULTS]:
        raise UsageError(
            expected=f"families of PixelWorld: {','.join(DEFAULTS)}",
            got=unknown[0],
            fix="name some of these, separated by commas",
        )
    return names  # type: ignore[return-value]


def demo_questions(out: Path) -> list[Question]:
    """Render scenes of all families into `out` and return one question for each entry of `DEMO_QUESTIONS`.

    Raises:
        OutputError: the folder cannot be written.
    """
    unused = {
        family: list(render(make_scenes(family, "test", 0, DEMO_SCENES), out))
        for family, _ in DEMO_QUESTIONS
    }
    chosen = []
    for family, needs_operation in DEMO_QUESTIONS:
        question = next(q for q in unused[family] if q.needs_look == needs_operation)
        unused[family].remove(question)
        chosen.append(with_media_root(question, out))
    return chosen
