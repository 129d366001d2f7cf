"""The command line: a thin layer. Imports stand inside commands, so that `--help` loads no torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixel_reasoner.errors import PixelReasonerError

if TYPE_CHECKING:
    from pixel_reasoner.data.labeller import Labeller
    from pixel_reasoner.data.synth import SynthSettings
    from pixel_reasoner.models.local import LocalModel
    from pixel_reasoner.models.remote import RemoteModel
    from pixel_reasoner.rollout.state import Rollout
    from pixel_reasoner.schema.question import MediaItem, Question
    from pixel_reasoner.schema.settings import PixelBudgets, RolloutConfig
    from pixel_reasoner.schema.trace import Trace

app = typer.Typer(
    name="pixel-reasoner",
    help="Let vision-language models look again: zoom into pictures and select frames while they reason.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
world_app = typer.Typer(
    no_args_is_help=True, help="PixelWorld: pictures and clips with known evidence."
)
train_app = typer.Typer(no_args_is_help=True, help="Train models.")
app.add_typer(world_app, name="world")
app.add_typer(train_app, name="train")

ModelOption = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="`tiny` (in the box), a model folder, or a hub id owner/name."
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, ... [default: a GPU if there is one]")
]
DialectOption = Annotated[
    str | None,
    typer.Option(
        help="How the model is offered operations [default: what its folder says, or what it looks like]"
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16 or float16 [default: as the weights are stored, where the processor multiplies that]"
    ),
]
CompileOption = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile a local model's norms and MLPs first: on a GPU a token then takes less than half as long.",
    ),
]
OverviewOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Pixels of a picture's overview at most [default: those of the model's folder or dialect]",
    ),
]
CropOption = Annotated[
    int | None, typer.Option(min=1, help="Pixels at most of what an operation returns, likewise.")
]
_SERVED = "A model behind servers"
EndpointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        help="Address of an OpenAI-compatible server that serves --model, such as http://localhost:8000/v1; may be "
        "repeated, requests are shared out.",
        rich_help_panel=_SERVED,
    ),
]
ProtocolOption = Annotated[
    str,
    typer.Option(
        help="How operations travel: `text` works with every server, `native` uses its tools.",
        rich_help_panel=_SERVED,
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        help="Its kind, which decides the fields it is sent: any, vllm, sglang, llamacpp, ollama, transformers or "
        "hosted [default: what it says of itself]",
        rich_help_panel=_SERVED,
    ),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(
        help="A file that holds the key [default: the environment variable OPENAI_API_KEY, if there is one]",
        rich_help_panel=_SERVED,
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(min=0.001, help="Seconds to wait for a server.", rich_help_panel=_SERVED),
]
WithoutOption = Annotated[
    bool, typer.Option("--no-operations", help="Offer no operations: one look, then words.")
]
MaxTurns = Annotated[int, typer.Option(min=1, help="Messages of the model at most.")]
MaxNewTokens = Annotated[int, typer.Option(min=1, help="New tokens per message at most.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy.")]
SampleSeed = Annotated[int, typer.Option(help="Seed of sampling.")]
FamilyOption = Annotated[
    str, typer.Option("--family", "-f", help="attribute, relation, count, infographic or video")
]
FamilyOrAll = Annotated[
    str,
    typer.Option("--family", "-f", help="attribute, relation, count, infographic, video or all"),
]
SplitOption = Annotated[str, typer.Option(help="train, validation or test")]
SeedOption = Annotated[int, typer.Option(help="First scene of the split.")]
CountOption = Annotated[int, typer.Option(help="How many questions.")]

_WORLD = "PixelWorld alone"

_DEMO = (
    ("attribute", True),
    ("relation", True),
    ("relation", False),
    ("count", True),
    ("infographic", True),
    ("video", True),
)
"""family of each question of the demo, and whether it needs a look"""


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    image: Annotated[
        list[Path] | None, typer.Option("--image", "-i", help="A picture file; may be repeated.")
    ] = None,
    video: Annotated[Path | None, typer.Option("--video", help="A video file.")] = None,
    frames: Annotated[Path | None, typer.Option("--frames", help="A folder of frames.")] = None,
    model: ModelOption = "tiny",
    without: WithoutOption = False,
    report: Annotated[
        Path | None, typer.Option(help="Also write the reasoning as a page, such as out.html.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole trace as one line of JSON.")
    ] = False,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    compiled: CompileOption = False,
    dialect: DialectOption = None,
    overview_px: OverviewOption = None,
    crop_px: CropOption = None,
    max_turns: MaxTurns = 6,
    max_new_tokens: MaxNewTokens = 1024,
    temperature: Temperature = 0.0,
    seed: SampleSeed = 0,
    endpoint: EndpointOption = None,
    protocol: ProtocolOption = "text",
    server: ServerOption = None,
    key_file: KeyFileOption = None,
    timeout_s: TimeoutOption = 300.0,
) -> None:
    """Ask about pictures, a video or a folder of frames; the reasoning streams as it happens.

    Examples:
        pixel-reasoner ask "Which letter is on the red circle?" --image scene.png

        pixel-reasoner ask "What does the sign say?" --image a.jpg --image b.jpg --model PATH --report out.html

        pixel-reasoner ask "Which digit is on the blue card?" --video clip.mp4 --json

        pixel-reasoner ask "What does the sign say?" --image a.jpg --model NAME --endpoint http://localhost:8000/v1
    """
    from pixel_reasoner.media.context import UNSCALED, MediaContext
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.rollout.ask import ask as ask_model
    from pixel_reasoner.schema.question import Question

    media = _media(image or [], video, frames)
    rules = _rules(without, max_turns, max_new_tokens, temperature, seed)
    asked = Question(id="ask", text=question, media=media)
    if image:
        MediaContext(
            asked, UNSCALED
        )  # reads headers: a wrong file is told before a large model is loaded
    servers = (tuple(endpoint or ()), protocol, server, key_file, timeout_s)
    named = ModelSpec(model, device, dialect, *servers)
    seen = named._replace(dtype=dtype, compiled=compiled, overview_px=overview_px, crop_px=crop_px)
    local = seen.load(operations=not without)
    if as_json:
        trace = ask_model(asked, local, rules)
        sys.stdout.write(trace.to_line() + "\n")
    else:
        trace = _ask_aloud(asked, local, rules)
    if report is not None:
        _write_report([trace], report, title=question, quiet=as_json)


@app.command("eval")
def eval_(
    task: Annotated[
        str, typer.Argument(help="`pixelworld`, or a benchmark that --list names.")
    ] = "",
    list_: Annotated[
        bool, typer.Option("--list", help="What each benchmark measures, its files and its metric.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the official files, or a data set of the hub, owner/name."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run; resumes if it exists.")
    ] = None,
    model: ModelOption = "tiny",
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Also ask without operations: what did looks gain and harm?"
        ),
    ] = False,
    without: WithoutOption = False,
    scorer: Annotated[
        str, typer.Option(help="Who compares answers: typed, harness or released.")
    ] = "typed",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask that many rows, drawn at random (benchmarks).")
    ] = None,
    limit_seed: Annotated[int, typer.Option(help="Of that draw.")] = 0,
    samples: Annotated[
        int, typer.Option(min=1, help="Ask each question so often: avg@k and pass@k.")
    ] = 1,
    temperature: Temperature = 0.0,
    sample_seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    shard: Annotated[
        str, typer.Option(help="Ask only the i-th of n parts: i/n, from 1; `merge` joins them.")
    ] = "1/1",
    cache: Annotated[
        Path | None, typer.Option(help="A file of responses that runs share; made if need be.")
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option(
            help="Where pictures of the benchmark's own files go [default: media in --out]"
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions that move together.")] = 16,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    compiled: CompileOption = False,
    dialect: DialectOption = None,
    overview_px: OverviewOption = None,
    crop_px: CropOption = None,
    max_turns: MaxTurns = 6,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="New tokens per message at most [default: 256 for PixelWorld, else 1024]"
        ),
    ] = None,
    family: Annotated[
        str,
        typer.Option(
            "--family",
            "-f",
            help="attribute, relation, count, infographic, video or all",
            rich_help_panel=_WORLD,
        ),
    ] = "attribute",
    split: Annotated[
        str, typer.Option(help="train, validation or test", rich_help_panel=_WORLD)
    ] = "test",
    seed: Annotated[
        int, typer.Option(help="First scene of the split.", rich_help_panel=_WORLD)
    ] = 0,
    count: Annotated[
        int, typer.Option(help="How many questions of a family.", rich_help_panel=_WORLD)
    ] = 200,
    disturb: Annotated[
        bool,
        typer.Option(
            "--disturb",
            help="Also replace first looks by ones that miss: how often does it recover?",
            rich_help_panel=_WORLD,
        ),
    ] = False,
    size_px: Annotated[
        int | None,
        typer.Option(help="Side of the canvas [default: the family's]", rich_help_panel=_WORLD),
    ] = None,
    detail_px: Annotated[
        int | None,
        typer.Option(
            help="Height of the decisive character [default: the family's]",
            rich_help_panel=_WORLD,
        ),
    ] = None,
    endpoint: EndpointOption = None,
    protocol: ProtocolOption = "text",
    server: ServerOption = None,
    key_file: KeyFileOption = None,
    timeout_s: TimeoutOption = 300.0,
) -> None:
    """Measure a model on a benchmark: what it answers, and what looking again gained and harmed.

    Examples:
        pixel-reasoner eval --list

        pixel-reasoner eval vstar --data vstar_bench --model FOLDER_OR_HUB_ID --compare --out runs/vstar

        pixel-reasoner eval pixelworld --family all --compare --disturb --out runs/all

        pixel-reasoner report runs/vstar --out vstar.html
    """
    if list_:
        _list_tasks()
        return
    _eval_options(task, out, compare or disturb, without, samples, temperature)
    assert out is not None, "_eval_options makes sure of it"
    from pixel_reasoner.evals.run import (
        Evaluation,
        evaluate,
        evaluate_compared,
        evaluate_disturbed,
    )
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.runs.cache import ResponseCache
    from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams

    who = _scorer(scorer)
    nth, of = _shard(shard)
    world = task == "pixelworld"
    with _progress() as progress:
        if world:
            params = {"size_px": size_px, "detail_px": detail_px}
            questions, about = _world_questions(family, split, seed, count, params, out, progress)
            rows = None
        else:
            source = _data(data, task)
            drawn = {"limit": limit, "seed": limit_seed}
            questions, about, rows = _task_questions(task, source, media or out / "media", drawn)
        if of > 1:
            about["shard"] = shard
        rules = RolloutConfig(
            operations=not without,
            limits=RolloutLimits(max_turns=max_turns),
            sampling=SamplingParams(
                max_new_tokens=max_new_tokens or (256 if world else 1024),
                temperature=temperature,
                seed=sample_seed,
            ),
        )
        servers = (tuple(endpoint or ()), protocol, server, key_file, timeout_s, batch_size)
        named = ModelSpec(model, device, dialect, *servers)
        seen = named._replace(
            dtype=dtype, compiled=compiled, overview_px=overview_px, crop_px=crop_px
        )
        plan = Evaluation(
            questions[nth::of],
            seen.load(operations=not without),
            rules,
            about,
            batch_size=batch_size,
            samples=samples,
            scorer=who,
            rows=rows,
            family_of=(lambda trace: trace.question.id.partition("-")[0]) if world else None,
            cache=ResponseCache(cache) if cache else None,
        )
        asked = len(questions[nth::of]) * samples
        show = _watched(progress, "asking", asked * (2 if compare else 1), plan.scorer)
        summary = (evaluate_compared if compare else evaluate)(plan, out, show)
        if disturb:
            show = _watched(progress, "disturbed", asked, plan.scorer)
            summary = evaluate_disturbed(summary, plan, out, show)
    _print_summary(summary, out)


@app.command()
def probe(
    model: ModelOption,
    endpoint: Annotated[
        list[str], typer.Option("--endpoint", help="Address of a server; may be repeated.")
    ],
    server: ServerOption = None,
    key_file: KeyFileOption = None,
    timeout_s: TimeoutOption = 300.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Find out what a server really does: whether pictures are seen, seeds are heeded, logprobs are told.

    About nine short requests to each. `ask` and `eval` do the same once a day, and send what works.

    Examples:
        pixel-reasoner probe --model qwen3-vl --endpoint http://localhost:8000/v1
    """
    import json

    from pixel_reasoner.models.spec import ModelSpec

    servers = (tuple(endpoint), "text", server, key_file, timeout_s)
    asked = ModelSpec(model, None, None, *servers).behind_servers()
    found = {url: one.model_dump(mode="json") for url, one in asked.probe(anew=True).items()}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    words = {True: "yes", False: "no", None: "cannot be told"}
    for url, one in found.items():
        _say(f"{url}, asked as {asked.server.value}")
        for name, question in _PROBED.items():
            _say(f"  {question}: {words[one[name]]}")
    for url in sorted({one.url for one in asked.pool.endpoints} - set(found)):
        _say(f"{url}: no answer")


_PROBED = {
    "pictures": "sees a picture in a user message",
    "tool_pictures": "sees a picture in a tool message",
    "seeds": "heeds seeds",
    "logprobs": "tells logprobs",
}


@app.command()
def merge(
    runs: Annotated[list[Path], typer.Argument(help="The folders of all shards of one run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the whole run.")],
    scorer: Annotated[
        str, typer.Option(help="Who compares answers: typed, harness or released.")
    ] = "typed",
) -> None:
    """Join the shards of one evaluation.

    Examples:
        pixel-reasoner merge runs/vstar-1 runs/vstar-2 --out runs/vstar
    """
    from pixel_reasoner.evals.merge import merge as merge_runs

    _print_summary(merge_runs(runs, out, _scorer(scorer)), out)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="The folder of a run.")],
    second: Annotated[Path, typer.Argument(help="The folder of the run it is set against.")],
    scorer: Annotated[
        str, typer.Option(help="Who compares answers: typed, harness or released.")
    ] = "typed",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare what both were asked, though it differs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write a page, such as compare.html.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Traces on the page at most.")] = 200,
) -> None:
    """Set two runs over the same questions against each other, with a paired test.

    Settings that decide the number and differ are named. Runs that were asked other questions are refused.

    Examples:
        pixel-reasoner compare runs/after runs/before --out compare.html
    """
    import json

    from pixel_reasoner.evals.compare import compare_runs

    found = compare_runs(first, second, _scorer(scorer), anyway=anyway)
    if out is not None:
        _write_comparison(found, first, second, out, limit)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for name, (one, other) in found["differing"].items():
        _say(f"differing: {name}: {one} against {other}")
    _print_compared(found, f"{first} alone", f"{second} alone", str(first), str(second))


@app.command()
def report(
    sources: Annotated[
        list[Path],
        typer.Argument(help="A run's folder or a traces.jsonl; several RL runs to compare."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path(
        "report.html"
    ),
    limit: Annotated[int, typer.Option(min=1, help="Traces on the page at most.")] = 500,
    table: Annotated[
        list[Path] | None,
        typer.Option(help="Also write a run's table, as .md or .csv; may be repeated."),
    ] = None,
    references: Annotated[
        bool, typer.Option("--references", help="Show published figures of the benchmark beside.")
    ] = False,
) -> None:
    """Write one self-contained page: a run's figures and traces with boxes, crops, thoughts and answers, or the curves of RL runs.

    The traces of a run that was asked with --compare come in an order: those that looking again harmed first, then those that it helped.

    Examples:
        pixel-reasoner report runs/video --out video.html

        pixel-reasoner report runs/vstar --out vstar.html --table vstar.md --table vstar.csv --references

        pixel-reasoner report runs/with-curiosity runs/without --out curves.html
    """
    from itertools import islice

    from pixel_reasoner.errors import UsageError
    from pixel_reasoner.evals.run import SUMMARY, load_run
    from pixel_reasoner.report.curves import LOG, write_curves
    from pixel_reasoner.report.run import instructive, run_head, run_summary, write_table
    from pixel_reasoner.scoring.grading import Scorer

    if all((source / LOG).exists() for source in sources):
        panels = write_curves({str(source): source for source in sources}, out)
        _say(f"{panels} curves: {out}")
        return
    if len(sources) > 1:
        raise UsageError(
            expected=f"one folder of traces, or several RL runs with {LOG}",
            got=", ".join(map(str, sources)),
            fix="name one",
        )
    source = sources[0]
    if not (source / SUMMARY).exists():
        if table or references:
            run_summary(source)  # says what is missing
        traces = list(islice(load_run(source), limit + 1))
        if len(traces) > limit:
            _say(f"Only the first {limit} traces are shown; --limit shows more.")
        _write_report(traces[:limit], out, title=source.name)
        return
    summary = run_summary(source)
    for path in table or ():
        write_table(summary, path)
        _say(f"Table: {path}")
    traces, became = instructive(source, Scorer(summary.get("scorer", "typed")))
    if len(traces) > limit:
        _say(f"Only the first {limit} traces are shown; --limit shows more.")
    head = run_head(summary, traces, references=references)
    _write_report(traces[:limit], out, title=source.name, head=head, became=became)


@world_app.command("render")
def world_render(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where files and questions.jsonl go.")],
    family: FamilyOption = "attribute",
    split: SplitOption = "test",
    seed: SeedOption = 0,
    count: CountOption = 10,
    size_px: Annotated[
        int | None, typer.Option(help="Side of the canvas [default: the family's]")
    ] = None,
    detail_px: Annotated[
        int | None, typer.Option(help="Height of the decisive character [default: the family's]")
    ] = None,
    check_readable: Annotated[
        bool,
        typer.Option("--check-readable", help="Report the character's height in the overview."),
    ] = False,
    model: Annotated[
        str, typer.Option(help="Whose overview --check-readable measures: `tiny` or a dialect.")
    ] = "tiny",
) -> None:
    """Write real picture and video files, and questions.jsonl with answers and evidence.

    Examples:
        pixel-reasoner world render --family attribute --count 20 --out scenes

        pixel-reasoner world render --size-px 8192 --detail-px 24 --count 5 --check-readable --out large
    """
    from pixel_reasoner.files import atomic_writer
    from pixel_reasoner.world import render, scenes

    params = _params(family, size_px, detail_px)
    wanted = scenes(family, split, seed, count, params)  # type: ignore[arg-type]
    with _progress() as progress:
        bar = progress.add_task("rendering", total=count, note="")
        with atomic_writer(out / "questions.jsonl") as file:
            for question in render(wanted, out):
                file.write(question.to_line() + "\n")
                progress.advance(bar)
    if check_readable:
        _report_readable(family, wanted[0].params, model)
    _say(f"{count} questions: {out / 'questions.jsonl'}")


@app.command()
def synth(
    source: Annotated[str, typer.Argument(help="pixelworld, jsonl, visa, star or sa1b")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the traces; resumes if it exists.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Where the data set lies (not for pixelworld).")
    ] = None,
    families: Annotated[
        str, typer.Option(help="Of PixelWorld, separated by commas, or all.")
    ] = "all",
    count: Annotated[int, typer.Option(min=1, help="Traces at most, over all shards.")] = 1000,
    per_scene: Annotated[
        int, typer.Option(min=1, help="Traces of one scene at most (PixelWorld).")
    ] = 6,
    seed: Annotated[int, typer.Option(min=0, help="Of scenes, words and regions.")] = 0,
    shard: Annotated[
        str, typer.Option(help="Write only the i-th of n parts: i/n, from 1.")
    ] = "1/1",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Who is to learn: `tiny`, a model folder or a dialect."),
    ] = "tiny",
    text_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of traces without a look (PixelWorld).")
    ] = 0.2667,
    refused_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of looks that are refused first.")
    ] = 0.05,
    mistakes: Annotated[
        bool,
        typer.Option(
            help="Whether some looks go wrong first and are corrected; --no-mistakes is for ablations."
        ),
    ] = True,
    margin: Annotated[
        float,
        typer.Option(min=0.0, help="What a look shows around the evidence, in its own widths."),
    ] = 0.25,
    min_side: Annotated[
        float,
        typer.Option(min=0.01, max=1.0, help="A look's least side, share of the picture."),
    ] = 0.12,
    regions: Annotated[
        int, typer.Option(min=1, help="Of one picture at most, to be asked about (sa1b).")
    ] = 3,
    analysis: Annotated[
        str, typer.Option(help="Who says what a look shows: `template` or `labeller`.")
    ] = "template",
    labeller: Annotated[
        list[str] | None,
        typer.Option(
            help="An OpenAI-compatible endpoint with a vision model, such as http://localhost:8000/v1; may be repeated,"
            " calls are shared out. Its key is taken from the environment variable OPENAI_API_KEY."
        ),
    ] = None,
    labeller_model: Annotated[
        str | None, typer.Option(help="The model's name at the endpoint.")
    ] = None,
    labeller_calls: Annotated[
        int | None, typer.Option(min=0, help="Calls at most; cached answers are free.")
    ] = None,
    labeller_concurrency: Annotated[int, typer.Option(min=1, help="Calls at once.")] = 8,
    labeller_timeout: Annotated[
        float, typer.Option(min=0.001, help="Seconds that a call may take.")
    ] = 60.0,
    labeller_cache: Annotated[
        Path | None,
        typer.Option(help="Folder of answers; runs may share it [default: labels in --out]"),
    ] = None,
) -> None:
    """Write expert traces from annotated questions: looks, mistakes and their correction.

    Examples:
        pixel-reasoner synth pixelworld --count 2000 --workers 2 --out runs/synth

        pixel-reasoner synth jsonl --data my_rows.jsonl --model pixel_reasoner --out runs/mine

        pixel-reasoner synth sa1b --data sa1b --labeller http://localhost:8000/v1 --labeller-model NAME --out runs/sa1b

        pixel-reasoner check runs/synth
    """
    from contextlib import nullcontext
    from itertools import islice

    from pixel_reasoner.data.labeller import labelling_of
    from pixel_reasoner.data.synth import SynthSettings, scene_units, synthesize
    from pixel_reasoner.errors import UsageError
    from pixel_reasoner.sources.base import SOURCES, open_source

    dialect, budgets = _spoken_and_seen(model)
    nth, of = _shard(shard)
    settings = SynthSettings(
        source=source if data is None else f"{source} {data}",
        count=count,
        seed=seed,
        families=_families(families) if source == "pixelworld" else (),
        shard=(nth, of),
        per_scene=per_scene,
        text_share=text_share,
        refused_share=refused_share,
        mistakes=mistakes,
        dialect=dialect,
        budgets=budgets,
        margin=margin,
        min_side=min_side,
        regions=regions if source == "sa1b" else None,
        labelling=labelling_of(source, labeller or [], labeller_model, analysis, labeller_calls),
    )
    if source == "pixelworld":
        units = scene_units(settings)
    elif data is None and SOURCES.get(source):
        raise UsageError(
            expected="--data, the folder of the data set", got="none", fix="add --data DIR"
        )
    else:
        options = {"regions": regions} if source == "sa1b" else {}
        rows = open_source(source, data=(data or Path()).absolute(), **options)
        units = islice(rows.units(out.absolute()), nth, None, of)
    service = {
        "urls": tuple(labeller or ()),
        "cache": labeller_cache or out / "labels",
        "concurrency": labeller_concurrency,
        "timeout_s": labeller_timeout,
    }
    opened = _labeller(settings, out, service) if settings.labelling else nullcontext()
    with opened as stage, _progress() as progress:
        bar = progress.add_task("traces", total=settings.quota, note="")
        summary = synthesize(
            settings,
            units,
            out,
            workers=workers,
            on_traces=lambda written: progress.update(
                bar, completed=written, note=stage.note() if stage else ""
            ),
            labeller=stage,
        )
    _say(
        f"{summary['count']} traces: {out / 'traces.jsonl'}  ({summary['traces_per_second']} a second)"
    )
    for title in ("kinds", "dropped", "labeller"):
        if summary.get(title):
            _say(f"{title}: " + ", ".join(f"{name} {n}" for name, n in summary[title].items()))


@app.command()
def check(
    source: Annotated[Path, typer.Argument(help="A folder with traces.jsonl, or the file.")],
    held_out: Annotated[
        Path | None, typer.Option(help="A questions.jsonl that no trace may be about.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Also count tokens, as this model reads them."),
    ] = None,
    show_mask: Annotated[
        bool,
        typer.Option(
            "--show-mask", help="Print one trace of each kind: what is trained is marked."
        ),
    ] = False,
) -> None:
    """Are traces fit to train on? Answers, evidence, calls and pixels are checked; exit code 1 if anything is wrong.

    Examples:
        pixel-reasoner check runs/synth --model tiny

        pixel-reasoner check runs/synth --show-mask
    """
    from pixel_reasoner.data.check import check_traces
    from pixel_reasoner.evals.run import load_run
    from pixel_reasoner.schema.question import load_questions

    if show_mask:
        _show_masks(source, model or "tiny")
        return
    ids = frozenset(q.id for q in load_questions(held_out)) if held_out else frozenset()
    count_tokens = None
    if model is not None:
        from pixel_reasoner.data.encode import encode

        processor = _processor(model)

        def count_tokens(trace: Trace) -> int:
            return len(encode(trace, processor).token_ids)

    with _progress() as progress:
        bar = progress.add_task("checking", total=None, note="")
        verdict = check_traces(
            load_run(source),
            held_out=ids,
            count_tokens=count_tokens,
            on_trace=lambda: progress.advance(bar),
        )
    for name, figure in verdict.figures.items():
        _say(f"{name}: {figure}")
    for problem in verdict.named:
        print(f"{problem.check}: {problem.question}: {problem.detail}", file=sys.stderr)
    if verdict.passed:
        _say(f"[green]fit to train on[/]: {verdict.checked} traces")
        return
    told = ", ".join(f"{name} {n}" for name, n in verdict.problems.items()) or "no trace"
    _say(f"[red]not fit to train on[/]: {told} (of {verdict.checked} traces)")
    raise typer.Exit(1)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A folder with traces.jsonl, or the file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    to: Annotated[str, typer.Option(help="trl or message_list")] = "trl",
) -> None:
    """Write traces in the formats of others.

    `trl`: a `datasets` folder with messages and embedded pictures, for a stock trl.SFTTrainer. `message_list`: the JSON
    of PixelReasoner-SFT-Data, pictures as files.

    Examples:
        pixel-reasoner export runs/synth --out runs/synth-trl

        pixel-reasoner export runs/synth --to message_list --out runs/synth-json
    """
    from pixel_reasoner.data.formats import export_message_list, export_trl
    from pixel_reasoner.errors import UsageError

    writers = {"trl": export_trl, "message_list": export_message_list}
    if to not in writers:
        raise UsageError(expected=f"--to {' or '.join(writers)}", got=to, fix="name one of these")
    _say(f"{writers[to](source, out)} rows: {out}")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A JSON file of PixelReasoner-SFT-Data.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the traces.")],
) -> None:
    """Read traces of PixelReasoner-SFT-Data: every call is executed again, what does not run is named.

    Example:
        pixel-reasoner import release/data.json --out runs/released
    """
    from collections import Counter

    from pixel_reasoner.data.formats import import_message_list
    from pixel_reasoner.schema.trace import save_traces
    from pixel_reasoner.sources.rows import SkippedRow

    dropped: Counter[str] = Counter()

    def traces() -> Any:
        for row in import_message_list(source.absolute()):
            if isinstance(row, SkippedRow):
                dropped[row.reason] += 1
                print(f"dropped: {row.where}: {row.detail}", file=sys.stderr)
            else:
                yield row

    count = save_traces(traces(), out / "traces.jsonl")
    _say(f"{count} traces: {out / 'traces.jsonl'}")
    if dropped:
        _say("dropped: " + ", ".join(f"{name} {n}" for name, n in dropped.items()))


@train_app.command("tiny")
def train_tiny(
    traces: Annotated[
        Path,
        typer.Option("--traces", help="Folder of `synth pixelworld`, written for `--model tiny`."),
    ] = Path("runs/tiny/synth"),
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Checkpoints, logs and the model.")
    ] = Path("runs/tiny"),
    tower: Annotated[
        str,
        typer.Option(
            help="Take over the vision tower of `tiny` or a model folder, and train the language model alone."
        ),
    ] = "",
    start: Annotated[
        str, typer.Option("--from", help="Instead of --tower: go on from its language model too.")
    ] = "",
    words: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of lessons that answer in words alone and guess what needs a look: a habit for ablations.",
        ),
    ] = 0.0,
    steps: Annotated[
        int, typer.Option(min=1, help="Of the last stage, the language model's.")
    ] = 4000,
    seed: Annotated[int, typer.Option(help="Of weights and batches.")] = 0,
    scale: Annotated[
        float,
        typer.Option(min=0.0, help="Share of scenes and steps: 0.01 tries the whole pipeline."),
    ] = 1.0,
    install: Annotated[
        bool,
        typer.Option("--install", help="Make the result the embedded model of this installation."),
    ] = False,
) -> None:
    """Train the embedded model from nothing. Every stage resumes after a kill: run the command again.

    Examples:
        pixel-reasoner synth pixelworld --count 2000 --out runs/tiny/synth

        pixel-reasoner train tiny --traces runs/tiny/synth --out runs/tiny

        pixel-reasoner train tiny --traces runs/few/synth --tower tiny --steps 200 --out runs/few
    """
    from pixel_reasoner.errors import UsageError, packages_of

    if tower and start:
        raise UsageError(
            expected="--tower or --from",
            got=f"--tower {tower} and --from {start}",
            fix="keep --from to go on from its language model, --tower to begin that anew",
        )
    with packages_of("local,train", "train"):
        from pixel_reasoner.tiny.train import train
    model = train(
        traces,
        out,
        steps=steps,
        tower=tower,
        start=start,
        words=words,
        seed=seed,
        scale=scale,
        install=install,
    )
    _say(f"The model: {model}")


@train_app.command("sft")
def train_sft(
    run: Annotated[Path, typer.Argument(help="The run as a TOML file.")],
) -> None:
    """Warm-start tuning on expert traces, by TRL. Resumes after a kill: run the command again.

    Examples:
        pixel-reasoner train sft run.toml

        accelerate launch -m pixel_reasoner.cli train sft run.toml
    """
    from pixel_reasoner.errors import packages_of
    from pixel_reasoner.train.config import SftRun

    chosen = SftRun.read(run)
    with packages_of("local,train", "train"):
        from pixel_reasoner.train.sft import train_sft as train
    model = train(chosen)
    if os.environ.get("RANK", "0") == "0":  # of several processes one tells
        _say(f"The model: {model}")


@train_app.command("rl")
def train_rl(
    run: Annotated[Path, typer.Argument(help="The run as a TOML file.")],
    plan: Annotated[
        bool, typer.Option("--plan", help="Load nothing: print batches, tokens and memory.")
    ] = False,
    gpus: Annotated[int, typer.Option(help="For --plan: how many GPUs train.")] = 8,
    gpu_gib: Annotated[float, typer.Option(help="For --plan: memory of each, in GiB.")] = 80.0,
    like: Annotated[
        str | None,
        typer.Option(help="For --plan: a model of the same shape, if the run's is not there yet."),
    ] = None,
) -> None:
    """Curiosity-driven RL, by TRL. Resumes after a kill: run the command again.

    Examples:
        pixel-reasoner train rl run.toml

        pixel-reasoner train rl run.toml --plan --gpus 32

        accelerate launch -m pixel_reasoner.cli train rl run.toml
    """
    from pixel_reasoner.errors import packages_of
    from pixel_reasoner.train.config import RlRun

    chosen = RlRun.read(run)
    if plan:
        from pixel_reasoner.train.plan import plan as planned

        for line in planned(chosen, gpus, gpu_gib, like).lines(chosen, gpu_gib):
            _say(line)
        return
    with packages_of("local,train", "train"):
        from pixel_reasoner.train.rl import train_rl as train
    model = train(chosen)
    if os.environ.get("RANK", "0") == "0":  # of several processes one tells
        _say(f"The model: {model}")


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where samples and the report go.")
    ] = Path("runs/demo"),
    model: ModelOption = "tiny",
    device: DeviceOption = None,
) -> None:
    """Draw sample pictures and clips, ask about them, and write the reasoning as a page."""
    from pixel_reasoner.models.spec import ModelSpec
    from pixel_reasoner.schema.question import with_media_root
    from pixel_reasoner.scoring.grading import is_right
    from pixel_reasoner.world import render, scenes

    local = ModelSpec(model, device).load()
    rules = _rules(False, 6, 256, 0.0, 0)
    traces: list[Trace] = []
    left = {
        family: list(render(scenes(family, "test", 0, 12), out))  # type: ignore[arg-type]
        for family in dict(_DEMO)
    }
    for family, needs_look in _DEMO:
        question = next(q for q in left[family] if q.needs_look == needs_look)
        left[family].remove(question)
        asked = with_media_root(question, out)
        _say(f"\n[bold]{asked.text}[/]  [dim]{asked.media[0].path}[/]")
        trace = _ask_aloud(asked, local, rules, quiet_note=bool(traces))
        _say("[green]right[/]" if is_right(trace) else f"[red]wrong[/]: it is {question.answer[0]}")
        traces.append(trace)
    _say("")
    _write_report(traces, out / "report.html", title="Pixel Reasoner: demo")


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    try:
        app()
    except PixelReasonerError as error:
        _stop(f"error: {error}", 2)
    except KeyboardInterrupt:
        _stop("stopped; what is done is kept, run the same command to go on", 130)
    except BrokenPipeError:  # the reader of our output has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _stop(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)


def _say(text: str) -> None:
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text)


def _media(images: list[Path], video: Path | None, frames: Path | None) -> tuple[MediaItem, ...]:
    from pixel_reasoner.errors import UsageError
    from pixel_reasoner.schema.question import MediaItem

    given = [
        name
        for name, value in (("--image", images), ("--video", video), ("--frames", frames))
        if value
    ]
    if len(given) != 1:
        raise UsageError(
            expected="one of --image (repeatable), --video, --frames",
            got=" and ".join(given) or "none",
            fix="keep one kind",
        )
    if video is not None:
        return (MediaItem(kind="video", path=str(video.absolute())),)
    if frames is not None:
        return (MediaItem(kind="frames", path=str(frames.absolute())),)
    return tuple(MediaItem(kind="image", path=str(path.absolute())) for path in images)


def _processor(model: str) -> Any:
    from pixel_reasoner.errors import packages_of
    from pixel_reasoner.models.folder import model_source

    with packages_of("local", "run a model"):
        from pixel_reasoner.models.local import load_processor
    return load_processor(model_source(model))


def _show_masks(source: Path, model: str) -> None:
    """One trace of each kind as tokens: trained ones green and between ⟦ ⟧, all others grey."""
    from rich.console import Console
    from rich.text import Text

    from pixel_reasoner.data.encode import encode
    from pixel_reasoner.data.expert import kind_of
    from pixel_reasoner.evals.run import load_run

    processor = _processor(model)
    console = Console(highlight=False, soft_wrap=True)
    shown: set[str] = set()
    for trace in load_run(source):
        kind = kind_of(trace) or "trace"
        if kind in shown:
            continue
        shown.add(kind)
        encoded = encode(trace, processor)
        told = Text(f"\n{kind}: {trace.question.id}\n", style="bold")
        before = False
        for token, trained in zip(encoded.token_ids, encoded.trained, strict=True):
            if trained != before:
                told.append("⟦" if trained else "⟧", style="bold green")
                before = trained
            if token != processor.image_token_id:
                text = processor.tokenizer.decode([token])
                told.append(text, style="bold green" if trained else "dim not bold")
        told.append("⟧" if before else "", style="bold green")
        console.print(told)
        console.print(f"{sum(encoded.trained)} of {len(encoded.token_ids)} tokens are trained")


def _labeller(settings: SynthSettings, out: Path, service: dict[str, Any]) -> Labeller:
    from pixel_reasoner.data.endpoint import Endpoint, Service
    from pixel_reasoner.data.labeller import Labeller
    from pixel_reasoner.models.http_pool import read_key

    labelling = settings.labelling
    assert labelling is not None, "a labeller is wanted"
    endpoint = Endpoint(
        Service(
            **service,
            model=labelling.model,
            calls=labelling.calls,
            log=out / "labeller.log",
            api_key=read_key(None),
        )
    )
    return Labeller(endpoint, labelling.analysis, settings.expert, out, settings.quota)


def _shard(text: str) -> tuple[int, int]:
    """`2/4` -> (1, 4): the second of four parts, from 0."""
    from pixel_reasoner.errors import UsageError

    nth, _, of = text.partition("/")
    if not (nth.isdigit() and of.isdigit() and 1 <= int(nth) <= int(of)):
        raise UsageError(expected="--shard i/n with 1 <= i <= n", got=text, fix="such as 1/4")
    return int(nth) - 1, int(of)


def _families(text: str) -> Any:
    from pixel_reasoner.errors import UsageError
    from pixel_reasoner.world import FAMILIES

    names = FAMILIES if text == "all" else tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in FAMILIES]:
        raise UsageError(
            expected=f"families of PixelWorld: {','.join(FAMILIES)}",
            got=unknown[0],
            fix="name some of these, separated by commas",
        )
    return names


def _rules(
    without: bool, max_turns: int, max_new_tokens: int, temperature: float, seed: int
) -> RolloutConfig:
    from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits, SamplingParams

    return RolloutConfig(
        operations=not without,
        limits=RolloutLimits(max_turns=max_turns),
        sampling=SamplingParams(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed),
    )


def _params(family: str, size_px: int | None, detail_px: int | None) -> Any:
    from pixel_reasoner.world import DEFAULTS

    given = {"size_px": size_px, "detail_px": detail_px}
    default = DEFAULTS.get(family)  # type: ignore[call-overload]
    return default and default.model_copy(update={k: v for k, v in given.items() if v is not None})


def _ask_aloud(
    asked: Question,
    model: LocalModel | RemoteModel,
    rules: RolloutConfig,
    *,
    quiet_note: bool = False,
) -> Trace:
    """Ask, and print the reasoning as it happens."""
    from rich.console import Console
    from rich.markup import escape

    from pixel_reasoner.rollout.ask import ask as ask_model

    console = Console(highlight=False, soft_wrap=True)
    note = "" if quiet_note else model.note
    said = ""

    def on_text(piece: str) -> None:
        nonlocal said, note
        if note:  # only now: had the files been unusable, their error would be the one message
            console.print(f"[dim]{escape(note)}[/]")
            note = ""
        before = len(_without_call(said))
        said += piece
        console.print(escape(_without_call(said)[before:]), end="")

    def on_turn(rollout: Rollout) -> None:
        nonlocal said
        said = ""
        console.print()
        for line in _what_happened(rollout):
            console.print(escape(line), style="cyan")

    trace = ask_model(asked, model, rules, on_text=on_text, on_turn=on_turn)
    answer = trace.answer if trace.answer is not None else f"none ({trace.stop})"
    console.print(f"[bold]Answer: {escape(answer)}[/]")
    return trace


def _without_call(text: str) -> str:
    from pixel_reasoner.dialects import CALL_TAGS

    for tag, _ in CALL_TAGS:
        text = text.partition(tag)[0]
    return text.rstrip("\n")


def _what_happened(rollout: Rollout) -> list[str]:
    """The last turn's call and what came back, in words."""
    turn = rollout.turns[-1] if rollout.turns else None
    if turn is None or turn.observation is None:
        return []
    called = f"{turn.call.name}({turn.call.arguments})" if turn.call else "a call"
    if turn.observation.error is not None:
        return [f"  ✗ {called}: {turn.observation.text}"]
    return [
        f"  → {called}",
        *(
            f"  ← picture {p.number}: {p.source_px[0]}x{p.source_px[1]} px of the source, "
            f"seen at {p.seen_px[0]}x{p.seen_px[1]}"
            for p in turn.observation.pictures
        ),
    ]


def _report_readable(family: str, params: Any, model: str) -> None:
    from pixel_reasoner.world import overview_detail_px

    _, budgets = _spoken_and_seen(model)
    height = overview_detail_px(family, budgets, params)  # type: ignore[arg-type]
    verdict = (
        "unreadable"
        if height < 4
        else "may be readable: choose a smaller detail or a larger canvas"
    )
    _say(f"The character is {height:.1f} px high in the overview of {model}: {verdict}.")


def _spoken_and_seen(model: str) -> tuple[str, PixelBudgets]:
    """Dialect and budgets of an embedded model, a model folder, or a dialect."""
    from pixel_reasoner.dialects import DIALECTS, get_dialect
    from pixel_reasoner.errors import UsageError
    from pixel_reasoner.models.folder import BUNDLED_MODELS, folder_settings, model_folder

    if model in DIALECTS:
        return model, DIALECTS[model].budgets
    folder = model_folder(model)
    if not folder.is_dir():
        raise UsageError(
            expected=f"a model folder, {', '.join([*BUNDLED_MODELS, *DIALECTS])}",
            got=repr(model),
            fix="name one of these",
        )
    settings = folder_settings(folder)
    dialect = get_dialect(settings.dialect)
    return dialect.name, settings.budgets or dialect.budgets


def _write_report(
    traces: list[Trace],
    out: Path,
    *,
    title: str,
    quiet: bool = False,
    head: str = "",
    became: dict[str, str] | None = None,
) -> None:
    from pixel_reasoner.report import write_report

    made = write_report(traces, out, title=title, head=head, became=became)
    if not quiet:
        _say(f"Report: {out}")
    for why, count in made.unshown.items():
        print(f"not shown: {count} pictures: {why}", file=sys.stderr)


def _write_comparison(
    found: dict[str, Any], first: Path, second: Path, out: Path, limit: int
) -> None:
    """A page of two runs: figures, settings that differ, and the first run's traces, those with another outcome first."""
    from pixel_reasoner.evals.run import load_run
    from pixel_reasoner.report.run import OUTCOMES, compared_html, differing_html, outcomes
    from pixel_reasoner.scoring.grading import Scorer

    names = str(first), str(second)
    traces = list(load_run(first))
    became = outcomes(traces, load_run(second), Scorer(found["scorer"]))
    traces = [trace for trace in traces if trace.question.id in became]
    traces.sort(key=lambda trace: OUTCOMES.index(became[trace.question.id]))
    title = f"{first.name} against {second.name}"
    head = compared_html(found, *names) + differing_html(found["differing"], *names)
    _write_report(traces[:limit], out, title=title, quiet=True, head=head, became=became)


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )


def _watched(progress: Any, title: str, total: int, scorer: Any) -> Any:
    """A bar that counts traces and right answers."""
    from pixel_reasoner.evals.stats import is_correct

    bar = progress.add_task(title, total=total, note="")
    right = 0

    def show(trace: Trace) -> None:
        nonlocal right
        right += is_correct(trace, scorer)
        progress.advance(bar)
        progress.update(bar, note=f"{right} right")

    return show


def _scorer(name: str) -> Any:
    from pixel_reasoner.errors import UsageError
    from pixel_reasoner.scoring.grading import Scorer

    if name not in list(Scorer):
        raise UsageError(
            expected=f"a scorer: {', '.join(Scorer)}", got=repr(name), fix="name one of these"
        )
    return Scorer(name)


def _list_tasks() -> None:
    """What each benchmark is."""
    from pixel_reasoner.evals.benchmarks import BENCHMARKS

    _say("[bold]pixelworld[/]  the embedded world, made as it is asked; no --data")
    for _, task in BENCHMARKS.items():
        _say(f"\n[bold]{task.name}[/]  {task.measures}")
        told = {
            "files": task.files,
            "rows": task.rows,
            "metric": task.metric,
            "not included": task.needs,
            "from": task.hub,
        }
        for title, text in told.items():
            if text:
                _say(f"    {title + ':':13} {text}")


def _eval_options(
    task: str, out: Path | None, more: bool, without: bool, samples: int, temperature: float
) -> None:
    from pixel_reasoner.errors import UsageError
    from pixel_reasoner.evals.benchmarks import BENCHMARKS, get_benchmark

    if not task:
        raise UsageError(
            expected=f"a task: pixelworld, {', '.join(BENCHMARKS)}",
            got="none",
            fix="name one; `pixel-reasoner eval --list` says what they are",
        )
    if task != "pixelworld":
        get_benchmark(task)
    if out is None:
        raise UsageError(expected="--out, the folder of the run", got="none", fix="add --out DIR")
    if more and without:
        raise UsageError(
            expected="--compare and --disturb with operations",
            got="one of them and --no-operations",
            fix="leave out --no-operations",
        )
    if samples > 1 and temperature == 0:
        raise UsageError(
            expected="a temperature above 0 for several samples",
            got=f"--samples {samples} at temperature 0, which gives the same answer each time",
            fix="add --temperature 0.7, or leave out --samples",
        )


def _world_questions(
    family: str,
    split: str,
    seed: int,
    count: int,
    params: dict[str, int | None],
    out: Path,
    progress: Any,
) -> tuple[list[Question], dict[str, Any]]:
    from pixel_reasoner.world import FAMILIES, VERSION, render, scenes

    families = FAMILIES if family == "all" else (family,)
    wanted = [
        scene
        for name in families
        for scene in scenes(name, split, seed, count, _params(name, **params))  # type: ignore[arg-type]
    ]
    about = {
        "name": "pixelworld",
        "version": VERSION,
        "family": family,
        "split": split,
        "seed": seed,
        "count": count,
        "params": {scene.family: scene.params.model_dump() for scene in wanted},
    }
    bar = progress.add_task("rendering", total=len(wanted), note="")
    return [progress.advance(bar) or question for question in render(wanted, out)], about


def _task_questions(
    name: str, data: Path, media: Path, drawn: dict[str, Any]
) -> tuple[list[Question], dict[str, Any], dict[str, Any]]:
    """The questions of a benchmark, what is told of it in the settings, and what became of its rows."""
    from pixel_reasoner.errors import InputError
    from pixel_reasoner.evals.benchmark import row_counts, select
    from pixel_reasoner.evals.benchmarks import get_benchmark

    selection = select(get_benchmark(name), data.absolute(), media.absolute(), **drawn)
    rows = row_counts(selection)
    if not selection.questions:
        reasons = ", ".join(f"{why} {one['count']}" for why, one in rows["dropped"].items())
        raise InputError(
            expected=f"rows of {name} that can be asked",
            got=f"none of {selection.read} in {data} ({reasons or 'it is empty'})",
            fix="see what is missing; `pixel-reasoner eval --list` names the official files",
        )
    return selection.questions, {"name": name, **drawn}, rows


def _data(data: Path | None, task: str) -> Path:
    """The folder of a benchmark: as given, or of a data set of the hub that the user names."""
    from pixel_reasoner.errors import InputError, UsageError, packages_of
    from pixel_reasoner.evals.benchmarks import get_benchmark

    hub = get_benchmark(task).hub
    if data is None:
        raise UsageError(
            expected="--data, the folder of the benchmark's files",
            got="none",
            fix=f"add --data DIR{f', or --data {hub} to download it' if hub else ''}",
        )
    if data.exists() or len(data.parts) != 2 or data.is_absolute() or data.parts[0] == "..":
        return data
    with packages_of("local", "download from the hub"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    try:
        return Path(snapshot_download(str(data), repo_type="dataset"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(
            expected="a folder, or a data set of the hub",
            got=f"{data}: no such folder, and from the hub {str(error).splitlines()[0]}",
            fix="give the folder of the official files",
        ) from error


_PRINTED = {
    "count": "asked",
    "accuracy": "accuracy",
    "accuracy_interval": "95 %",
    "score": "score",
    "rapr": "RaPR",
    "evidence_hit_rate": "evidence",
    "operation_error_rate": "refused",
    "unparsed_rate": "unparsed",
    "mean_operations": "looks",
}
"""figure -> the words above its column"""


def _print_summary(summary: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    families = summary.get("by_family", {})
    groups = {"all": summary, **summary["by_category"], **(families if len(families) > 1 else {})}
    figures = [f for f in _PRINTED if f != "score" or summary["score"] != summary["accuracy"]]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold", max_width=17)
    for figure in figures:
        table.add_column(_PRINTED[figure], justify="right", no_wrap=True)
    for name, group in groups.items():
        table.add_row(name, *(_shown(group[figure]) for figure in figures))
    Console().print(table)
    if "cyclic_accuracy" in summary:
        _say(f"cyclic_accuracy {summary['cyclic_accuracy']:g}")
    _print_repeats(summary.get("repeats", {}))
    if "gain" in summary:
        _print_compared(summary, "gain", "harm", "with", "without")
    if summary.get("recovery_rate") is not None:
        _say(f"recovery_rate {summary['recovery_rate']:g} of {summary['disturbed']} disturbed")
    _print_rows(summary)
    _say(f"Traces and summary: {out}")


def _print_repeats(repeats: dict[str, Any]) -> None:
    groups = {"": repeats, **repeats.get("by_category", {})}
    for group, figures in groups.items():
        told = {n: f for n, f in figures.items() if n.startswith(("avg@", "pass@"))}
        for name, figure in told.items():
            _say(f"{name} {group} ".strip() + f" {figure['value']:g} {_shown(figure['interval'])}")


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.2f}–{value[1]:.2f}"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _print_rows(summary: dict[str, Any]) -> None:
    """What was not evaluated, counted and named."""
    rows = summary.get("rows")
    if rows is not None:
        _say(
            f"evaluated {summary['count']} of {rows['read']} rows ({summary['count'] / max(1, rows['read']):.1%})"
        )
        for title in ("dropped", "noted"):
            for why, told in rows[title].items():
                print(
                    f"{title}: {why} {told['count']}: {'; '.join(told['rows'][:3])}",
                    file=sys.stderr,
                )
    for name, why in summary["failed"].items():
        print(f"failed: {name}: {why}", file=sys.stderr)


def _print_compared(found: dict[str, Any], gain: str, harm: str, with_: str, without: str) -> None:
    from rich.console import Console
    from rich.table import Table

    titles = {
        "with": with_,
        "without": without,
        "gain": gain,
        "harm": harm,
        "both": "both right",
        "neither": "neither",
        "difference": "difference",
    }
    table = Table(box=None, header_style="bold")
    for name in (f"{found['with']['count']} questions", "share", "95 %"):
        table.add_column(name, justify="left" if name.endswith("questions") else "right")
    for name, title in titles.items():
        table.add_row(title, _shown(found[name]["value"]), _shown(found[name]["interval"]))
    Console().print(table)
    _say(f"paired test of the difference: p = {found['difference']['p']:g}")


if __name__ == "__main__":
    main()
