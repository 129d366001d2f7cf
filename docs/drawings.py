"""Draw the pictures of how-it-works.md: modules as boxes, data as arrows.

    python docs/drawings.py        # writes docs/modules.svg and docs/flows.svg

Colours follow the reader's light or dark mode.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

HERE = Path(__file__).parent

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .small { font-size: 11px; fill: #59636e; }
  .title { font-size: 15px; font-weight: 600; }
  .name { font-weight: 600; }
  .box { fill: #f6f8fa; stroke: #8c959f; }
  .core { fill: #ddf4ff; stroke: #0969da; }
  .leaf { fill: #fff8c5; stroke: #9a6700; }
  .lane { fill: none; stroke: #d1d9e0; }
  .arrow { fill: none; stroke: #59636e; stroke-width: 1.4; marker-end: url(#head); }
  .head { fill: #59636e; }
  .label { font-size: 11px; font-style: italic; fill: #0969da; }
  .ground { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9198a1; } .box { fill: #151b23; stroke: #656c76; }
    .core { fill: #0c2d4a; stroke: #4493f8; } .leaf { fill: #3a2d05; stroke: #d29922; }
    .lane { stroke: #3d444d; } .arrow { stroke: #9198a1; } .head { fill: #9198a1; } .label { fill: #79c0ff; }
    .ground { fill: #0d1117; }
  }
"""


class Drawing:
    """Boxes and arrows on a page of a given size."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []
        self.boxes: dict[str, tuple[float, float, float, float]] = {}

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def box(  # noqa: PLR0913 - a place, a size and what stands in it
        self, name: str, x: float, y: float, w: float, h: float, *lines: str, kind: str = "box"
    ) -> None:
        self.boxes[name] = (x, y, w, h)
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6" class="{kind}"/>'
        )
        self.text(x + w / 2, y + 19, name.partition("#")[0], "name", "middle")
        for number, line in enumerate(lines):
            self.text(x + w / 2, y + 36 + 14 * number, line, "small", "middle")

    def arrow(
        self,
        start: str,
        end: str,
        label: str = "",
        sides: str = "rl",
        shift: float = 0.0,
        at: float = 0.5,
    ) -> None:
        """An arrow from one side of a box to one of another: l, r, t, b."""
        x1, y1 = self._side(start, sides[0], shift)
        x2, y2 = self._side(end, sides[1], shift)
        if sides[0] in "lr":
            bend = (x1 + x2) / 2
            path = f"M{x1:g} {y1:g} C{bend:g} {y1:g} {bend:g} {y2:g} {x2:g} {y2:g}"
        else:
            bend = (y1 + y2) / 2
            path = f"M{x1:g} {y1:g} C{x1:g} {bend:g} {x2:g} {bend:g} {x2:g} {y2:g}"
        self.parts.append(f'<path d="{path}" class="arrow"/>')
        if label:
            x, y = x1 + (x2 - x1) * at, y1 + (y2 - y1) * at
            beside = 5 if sides[0] in "tb" else 0
            self.text(x + beside, y - 5, label, "label", "start" if beside else "middle")

    def _side(self, name: str, side: str, shift: float) -> tuple[float, float]:
        x, y, w, h = self.boxes[name]
        return {
            "l": (x, y + h / 2 + shift),
            "r": (x + w, y + h / 2 + shift),
            "t": (x + w / 2 + shift, y),
            "b": (x + w / 2 + shift, y + h),
        }[side]

    def write(self, path: Path) -> None:
        body = "\n".join(self.parts)
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img" aria-label="{escape(self.title)}">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n"
            '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
            '<path d="M0 0 L9 4 L0 8 z" class="head"/></marker></defs>\n'
            f'<rect width="{self.width}" height="{self.height}" class="ground"/>\n{body}\n</svg>\n',
            encoding="utf-8",
        )


def modules() -> Drawing:
    """Packages in import order, bottom to top; arrows are data."""
    page = Drawing(1120, 680, "Modules of pixel_reasoner, and the data that moves between them")
    page.text(24, 30, "Modules. A package imports only what stands below it.", "title")
    w, h = 200, 64
    page.box("cli/", 60, 50, w, h, "one file per command group", "parses, calls, prints")
    page.box("api.py", 380, 50, w, h, "what the commands do,", "as functions")
    page.box("reports/", 660, 50, w, h, "pages of traces and runs")
    page.box("train/", 24, 160, w, h, "SFT and RL on TRL")
    page.box("data/", 330, 160, w, h, "synthesis, check, encoding,", "export")
    page.box("evals/", 600, 160, w, h, "benchmarks, runs, statistics,", "comparisons")
    page.box("sources/", 60, 270, w, h, "public sets, own rows,", "PixelWorld: questions")
    page.box("runs/", 600, 270, w, h, "append-only run store,", "response cache")
    page.box(
        "rollout/", 340, 370, w, h, "state, hooks, scheduler,", "replay, strategies", kind="core"
    )
    page.box(
        "models/", 24, 370, w, h, "engine, servers, scripted:", "one backend protocol", kind="core"
    )
    page.box("dialects/", 24, 480, w, h, "prompts, call syntaxes,", "parsed turns", kind="core")
    page.box("operations/", 340, 480, w, h, "zoom, frames; a registry", "of specs", kind="core")
    page.box("media/", 650, 480, w, h, "limits, decoder, store,", "numbered pictures", kind="core")
    page.box("scoring/", 860, 370, w, h, "extraction, grading,", "evidence, rewards")
    page.box(
        "schema/",
        340,
        590,
        w,
        h,
        "questions, traces, settings,",
        "events: versioned records",
        kind="core",
    )
    page.box(
        "errors, files, registry",
        600,
        590,
        w,
        h,
        "typed errors, atomic writes,",
        "names of plug-ins",
    )
    page.box("world/", 900, 590, w, h, "PixelWorld: scenes with", "known evidence", kind="leaf")
    page.box("tiny/", 900, 160, w, h, "training of the", "bundled model", kind="leaf")
    page.box("integrations/", 900, 50, w, h, "Ray Data, inspect_ai,", "lmms-eval", kind="leaf")
    page.arrow("sources/", "rollout/", "Question", "bt", at=0.35)
    page.arrow("rollout/", "models/", "messages", "lr", -10)
    page.arrow("models/", "rollout/", "Completion", "rl", 16, at=0.5)
    page.arrow("rollout/", "dialects/", "text", "bt", -60, at=0.62)
    page.arrow("rollout/", "operations/", "ToolCall", "bt", -10, at=0.55)
    page.arrow("operations/", "media/", "region, frames", "rl", -8)
    page.arrow("media/", "rollout/", "Picture, pixels", "tr", at=0.42)
    page.arrow("rollout/", "runs/", "Trace", "tb", 40, at=0.75)
    page.arrow("runs/", "evals/", "traces", "tb", 0, at=0.5)
    page.arrow("rollout/", "data/", "Trace", "tb", -24, at=0.78)
    page.arrow("data/", "train/", "ids, loss mask", "lr", 0)
    page.arrow("scoring/", "evals/", "grade", "tr", at=0.62)
    page.arrow("evals/", "reports/", "summary, traces", "tb", 60, at=0.5)
    page.arrow("cli/", "api.py", "options", "rl")
    page.arrow("api.py", "evals/", "EvalSpec, ModelSpec", "bt", -20, at=0.5)
    return page


def flows() -> Drawing:
    """A question, a training row and a reward, followed through the files."""
    page = Drawing(1320, 600, "A question, a training row and a reward, followed through the files")
    w, h = 172, 62

    def lane(top: float, title: str, steps: list[tuple[str, str, str]]) -> None:
        page.text(24, top - 12, title, "title")
        for number, (name, line, data) in enumerate(steps):
            key = f"{name}#{top}-{number}"
            kind = "core" if name.startswith(("rollout", "models")) else "box"
            lines = line.split("|")
            page.box(key, 24 + number * 218, top, w, h, *lines, kind=kind)
            if number:
                page.arrow(f"{steps[number - 1][0]}#{top}-{number - 1}", key, "")
                page.text(24 + number * 218 - 23, top - 6, data, "label", "middle")

    lane(
        60,
        "A question",
        [
            ("rollout/ask", "submits a request", ""),
            ("media/context", "opens the media,|numbers the pictures", "Question"),
            ("dialects/render", "writes the prompt", "Picture"),
            ("models/engine", "prefills what is new,|decodes", "messages"),
            ("dialects/parse", "thoughts, words,|calls, answer", "Completion"),
            ("operations/zoom", "new pictures from|the source", "ToolCall"),
        ],
    )
    page.box("rollout/state", 1114, 170, w, h, "records the turn;", "goes on or stops", kind="core")
    page.arrow("operations/zoom#60-5", "rollout/state", "Observation", "bt", 0, at=0.6)
    page.arrow("rollout/state", "dialects/render#60-2", "next turn", "lb", 0, at=0.25)
    lane(
        300,
        "A training row",
        [
            ("sources/", "rows with evidence", ""),
            ("data/expert", "thoughts, mistakes,|corrections", "Question"),
            ("rollout/state", "executes every call", "turn texts"),
            ("data/check", "answers, evidence,|replay, pixels", "Trace"),
            ("data/encode", "chat template|renders and marks", "Trace"),
            ("train/sft", "loss on assistant|tokens alone", "ids, loss mask"),
        ],
    )
    lane(
        450,
        "A reward",
        [
            ("train/grpo", "G rollouts of|each question", ""),
            ("train/rollouts/engine_source", "turns by the engine", "prompt ids"),
            ("rollout/state", "operations, stop", "token ids, logprobs"),
            ("scoring/grading", "is it right?", "Trace"),
            (
                "scoring/rewards",
                "correctness, curiosity,|cost of a whole group",
                "score, operations",
            ),
            ("train/replay_buffer", "references, replay,|micro-batches", "advantage"),
        ],
    )
    page.text(
        24,
        560,
        "One record crosses all borders: the Trace (schema/trace). It contains token ids, log-probabilities, settings and "
        "references to pixels, and no pixels.",
        "small",
    )
    page.text(
        24,
        580,
        "Requests of ask, ask_many, evaluations, servers and adapters share one scheduler (rollout/scheduler) per model, "
        "and so one batch of its backend.",
        "small",
    )
    return page


if __name__ == "__main__":
    modules().write(HERE / "modules.svg")
    flows().write(HERE / "flows.svg")
