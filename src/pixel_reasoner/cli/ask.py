"""Commands `ask` and `demo`: answer questions on the terminal."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from pixel_reasoner.cli.options import (
    BudgetOption,
    CalibrationOption,
    DeviceOption,
    LocalOptions,
    MaxNewTokensOption,
    MaxTurnsOption,
    ModelOption,
    OperationOption,
    SamplingSeedOption,
    ServerOptions,
    StrategyOption,
    StrictOption,
    TemperatureOption,
    WithoutOption,
    model_spec,
    rollout_config,
    with_groups,
)
from pixel_reasoner.cli.output import (
    check_output_file,
    print_line,
    print_pictures_written,
    print_report_written,
    warn,
)
from pixel_reasoner.cli.transcript import Transcript
from pixel_reasoner.errors import UsageError
from pixel_reasoner.files import ANIMATION_SUFFIXES, STRIP_SUFFIXES

if TYPE_CHECKING:
    from pixel_reasoner.api import MediaItem, Question, RolloutConfig, Trace
    from pixel_reasoner.models.registry import LoadedModel

ImageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        "-i",
        metavar="PATH",
        help="A picture file, or the URL of one: s3://bucket/a.jpg. May be repeated.",
    ),
]
VideoOption = Annotated[
    str | None, typer.Option("--video", metavar="PATH", help="A video file, or its URL.")
]
_ADDRESS = re.compile(r"(?:https?|ftp|s3|gs|data|file):", re.IGNORECASE)


@dataclass(frozen=True)
class OfferOptions:
    """Options that decide which operations are offered, and how rollouts become one answer."""

    panel: ClassVar[str] = "Options"

    without: WithoutOption = False
    operation: OperationOption = None
    strict: StrictOption = False
    strategy: StrategyOption = "single"
    calibration: CalibrationOption = None
    budget: BudgetOption = "fixed"
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", help="Also print the cost: rollouts, tokens of text and pictures, time."
        ),
    ] = False


@dataclass(frozen=True)
class FileOptions:
    """Files that are written in addition to what is printed."""

    panel: ClassVar[str] = "Options"

    report: Annotated[
        Path | None,
        typer.Option(help="Also write the reasoning as an HTML page, for example out.html."),
    ] = None
    strip: Annotated[
        Path | None,
        typer.Option(
            help="Also write the steps as one picture for slides: the question, the boxes on the source, each crop, "
            "the answer. A .png, .webp or .jpg file."
        ),
    ] = None
    gif: Annotated[
        Path | None,
        typer.Option(
            help="Also write the steps as an animation for chats, which repeats for ever. A .gif or .webp file."
        ),
    ] = None

    def check(self) -> None:
        """Raise an error if a file cannot be written, before anything is computed.

        Raises:
            UsageError: the path is a folder or below a file, has another suffix, or is used twice.
        """
        if self.report is not None:
            check_output_file(self.report, "--report")
        if self.strip is not None:
            check_output_file(self.strip, "--strip", STRIP_SUFFIXES)
        if self.gif is not None:
            check_output_file(self.gif, "--gif", ANIMATION_SUFFIXES)
        if self.strip and self.gif and self.strip.absolute() == self.gif.absolute():
            raise UsageError(
                expected="two files",
                got=f"--strip and --gif {self.gif}",
                fix="give them different names",
            )

    def write(self, trace: Trace, *, quiet: bool) -> None:
        """Write the files and print their paths; with `quiet` only what they do not show."""
        if self.report is not None:
            _write_report([trace], self.report, title=trace.question.text, quiet=quiet)
        pictures = {
            **({"Strip": trace.save_strip(self.strip)} if self.strip else {}),
            **({"Animation": trace.save_animation(self.gif)} if self.gif else {}),
        }
        print_pictures_written(pictures, quiet=quiet)


@with_groups
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    image: ImageOption = None,
    video: VideoOption = None,
    frames: Annotated[Path | None, typer.Option("--frames", help="A folder of frames.")] = None,
    page: Annotated[
        int | None,
        typer.Option(min=1, help="Page of a TIFF picture or a PDF, from 1; by default the first."),
    ] = None,
    model: ModelOption = "tiny",
    rollout: OfferOptions = OfferOptions(),
    files: FileOptions = FileOptions(),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole trace as one line of JSON.")
    ] = False,
    local: LocalOptions = LocalOptions(),
    max_turns: MaxTurnsOption = 6,
    max_new_tokens: MaxNewTokensOption = 1024,
    temperature: TemperatureOption = 0.0,
    seed: SamplingSeedOption = 0,
    servers: ServerOptions = ServerOptions(),
) -> None:
    """Ask about pictures, a video or a folder of frames. With --strategy single the reasoning is printed while it is generated.

    Examples:
        pixel-reasoner ask "Which letter is on the red circle?" --image scene.png

        pixel-reasoner ask "What does the sign say?" --image a.jpg --image b.jpg --model PATH --report out.html

        pixel-reasoner ask "Which letter is on the red circle?" --image scene.png --strip steps.png --gif steps.gif

        pixel-reasoner ask "Which digit is on the blue card?" --video clip.mp4 --json

        pixel-reasoner ask "What does the sign say?" --image a.jpg --model NAME --endpoint http://localhost:8000/v1
    """
    _check_question(question)
    files.check()
    media = _media(image or [], video, frames, page)

    from pixel_reasoner import api

    asked = api.Question(id="ask", text=question, media=media)
    config = rollout_config(
        operations=not rollout.without,
        added=rollout.operation or (),
        strict=rollout.strict,
        budget=rollout.budget,
        max_turns=max_turns,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        seed=seed,
    )
    api.check_strategy(rollout.strategy, config, rollout.calibration)
    for note in api.check_media(asked):
        warn(f"note: {note}")
    loaded = api.load_model(model_spec(model, local, servers), config)
    trace = _answer(asked, loaded, config, rollout, as_json=as_json)
    files.write(trace, quiet=as_json)


def _print_cost(trace: Trace) -> None:
    """Print the cost of an answer, and its confidence, to standard error."""
    from pixel_reasoner import api

    usage = api.answer_usage(trace)
    words = "1 rollout" if usage.num_rollouts == 1 else f"{usage.num_rollouts} rollouts"
    warn(
        f"cost: {words}, {usage.prompt_tokens:,} prompt tokens ({usage.visual_tokens:,} of pictures), "
        f"{usage.new_tokens:,} new tokens, {usage.generate_s:.1f} s of generation, {trace.seconds:.1f} s in all"
    )
    sizes = [f"{one.seen_px[0]}x{one.seen_px[1]}" for one in trace.all_pictures.values()]
    if sizes:
        counted = (
            f"{size} ({sizes.count(size)} times)" if sizes.count(size) > 1 else size
            for size in dict.fromkeys(sizes)
        )
        warn(f"pictures: {', '.join(counted)} px")
    if trace.strategy is not None and trace.strategy.confidence is not None:
        known = trace.strategy.calibrated
        calibrated = "" if known is None else f", calibrated {known:.2f}"
        warn(f"confidence: {trace.strategy.confidence:.2f}{calibrated}")


def _answer(
    question: Question,
    loaded: LoadedModel,
    config: RolloutConfig,
    rollout: OfferOptions,
    *,
    as_json: bool,
) -> Trace:
    """Ask, and print the text as it comes, the answer of several rollouts, or the trace as JSON."""
    if rollout.strategy == "single" and not as_json:
        trace = _ask_streaming(question, loaded, config)
    else:
        trace = _ask_at_once(question, loaded, config, rollout, as_json=as_json)
    if rollout.verbose:
        _print_cost(trace)
    return trace


def _ask_at_once(
    question: Question,
    loaded: LoadedModel,
    config: RolloutConfig,
    rollout: OfferOptions,
    *,
    as_json: bool,
) -> Trace:
    """Ask, and print the answer of a strategy or the trace as JSON."""
    from pixel_reasoner import api

    trace = api.ask(
        question, loaded, config, strategy=rollout.strategy, calibration=rollout.calibration
    )
    if as_json:
        sys.stdout.write(trace.to_line() + "\n")
    else:
        Transcript(loaded.note).end(trace)
        known = api.check_media(question)  # printed before the question was asked
        for note in trace.notes:
            if note not in known:
                print_line((note, "dim"))
    return trace


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for samples and the report.")
    ] = Path("runs/demo"),
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="`tiny` (bundled), a model folder, or a hub id owner/name."
        ),
    ] = "tiny",
    device: DeviceOption = None,
) -> None:
    """Render sample pictures and clips, ask about them, and write the reasoning as an HTML page."""
    from pixel_reasoner import api

    config = rollout_config(
        operations=True, max_turns=6, max_new_tokens=256, temperature=0.0, seed=0
    )
    loaded = api.load_model(api.ModelSpec(model, device), config)
    traces: list[Trace] = []
    for question in api.demo_questions(out):
        print_line("\n", (question.text, "bold"), "  ", (question.media[0].path, "dim"))
        trace = _ask_streaming(question, loaded, config, has_note=not traces)
        correct = api.is_right(trace)
        if correct:
            print_line(("right", "green"))
        else:
            print_line(("wrong", "red"), f": it is {question.answer[0]}")
        traces.append(trace)
    print_line("")
    _write_report(traces, out / "report.html", title="Pixel Reasoner: demo")


def _ask_streaming(
    question: Question,
    model: LoadedModel,
    config: RolloutConfig,
    *,
    has_note: bool = True,
) -> Trace:
    """Ask, and print text, calls and results during generation."""
    from pixel_reasoner import api

    transcript = Transcript(model.note if has_note else "")
    try:
        trace = api.ask(
            question, model, config, on_text=transcript.on_text, on_turn=transcript.on_turn
        )
    finally:
        transcript.stop()
    transcript.end(trace)
    return trace


def _write_report(traces: list[Trace], out: Path, *, title: str, quiet: bool = False) -> None:
    from pixel_reasoner import api

    written = api.write_report(traces, out, title=title)
    print_report_written(out, written.unshown, quiet=quiet)


def _check_question(question: str) -> None:
    if not question.strip():
        raise UsageError(
            expected="a question", got=repr(question), fix='for example "What does the sign say?"'
        )


def _media(
    images: list[str], video: str | None, frames: Path | None, page: int | None
) -> tuple[MediaItem, ...]:
    from pixel_reasoner.api import MediaItem

    options = (("--image", images), ("--video", video), ("--frames", frames))
    used = [name for name, value in options if value]
    if not used:
        raise UsageError(
            expected="a question about a picture or video",
            got="no file",
            fix="add --image FILE, --video FILE or --frames FOLDER",
        )
    if len(used) != 1:
        raise UsageError(
            expected="one of --image (repeatable), --video, --frames",
            got=" and ".join(used),
            fix="keep one kind",
        )
    if page is not None and not images:
        raise UsageError(
            expected="--page with --image", got=f"--page and {used[0]}", fix="leave out --page"
        )
    if video is not None:
        return (_named_item("--video", video, MediaItem(kind="video", path="")),)
    if frames is not None:
        return (MediaItem(kind="frames", path=str(frames.absolute())),)
    item = MediaItem(kind="image", path="", page=page)
    return tuple(_named_item("--image", path, item) for path in images)


def _named_item(option: str, path: str, item: MediaItem) -> MediaItem:
    """Return an item of a file or URL that the user names on the command line, so that it may be read."""
    from pixel_reasoner.schema.media_url import SCHEMES, is_url

    if is_url(path):
        return item.model_copy(update={"path": path}).restricted([path])
    if _ADDRESS.match(path):
        raise UsageError(
            expected=f"{option} with a local file, or a URL of {', '.join(SCHEMES)}",
            got=f"the address {path}",
            fix="download it first, for example with `curl -O ADDRESS`",
        )
    return item.model_copy(update={"path": str(Path(path).absolute())})
