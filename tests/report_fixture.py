"""Media and traces for tests of the report: every stop reason, with real pixels."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw

from pixel_reasoner.media.resize import region_px
from pixel_reasoner.schema.geometry import WHOLE, Box
from pixel_reasoner.schema.question import Evidence, MediaItem, Question
from pixel_reasoner.schema.settings import ModelInfo, RolloutLimits, RunSettings
from pixel_reasoner.schema.trace import (
    CallErrorKind,
    Observation,
    Picture,
    StopReason,
    ToolCall,
    Trace,
    Turn,
)

SIZE = (960, 720)
SEEN = (256, 192)
NUM_FRAMES = 8
HOSTILE = (
    "<img src=x onerror=alert(1)></script><script>alert(2)</script> & \"quoted\" 'too' </article>"
)
SETTINGS = RunSettings(
    model=ModelInfo(name="tiny"),
    dialect="qwen",
    limits=RolloutLimits(max_turns=6),
)
_COLORS = {
    "red": "#d1493f",
    "blue": "#3f6fd1",
    "green": "#3d9a5f",
    "yellow": "#d9b13b",
    "purple": "#8452b8",
}


def draw_scene(path: Path, seed: int = 0) -> Path:
    """Draw coloured discs, each with a small digit. The red one is always at (0.25, 0.3)."""
    rng = random.Random(seed)
    image = Image.new("RGB", SIZE, "#eceae4")
    pen = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = rng.randrange(SIZE[0]), rng.randrange(SIZE[1])
        pen.line([x, y, x + rng.randrange(60), y + rng.randrange(60)], fill="#d5d2c8", width=2)
    places = [(0.25, 0.3), (0.7, 0.25), (0.5, 0.6), (0.85, 0.7), (0.15, 0.8)]
    for color, (x, y) in zip(_COLORS.values(), places, strict=True):
        at = (int(x * SIZE[0]), int(y * SIZE[1]))
        pen.circle(at, 50, fill=color, outline="#333333", width=3)
        pen.text(at, str(rng.randrange(10)), fill="white", anchor="mm", font_size=22)
    image.save(path)
    return path


def write_clip(path: Path) -> Path:
    """Write a clip of a moving disc with a digit in frames 4 and 5."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 480, 352, "yuv420p"
        for index in range(NUM_FRAMES):
            image = Image.new("RGB", (480, 352), "#e4e8ec")
            pen = ImageDraw.Draw(image)
            at = (60 + 50 * index, 180)
            pen.circle(at, 40, fill="#d1493f")
            if index in (3, 4):
                pen.text(at, "7", fill="white", anchor="mm", font_size=30)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    return path


def zoom(
    number: int,
    box: Box,
    parent: int = 1,
    thought: str = "I cannot read it, so I zoom in.",
    outer: Box = WHOLE,
) -> Turn:
    """Return a turn with an executed zoom. `outer` is the region of the parent."""
    called = list(box.relative_to(outer))
    left, top, right, bottom = region_px(SIZE, box)
    size = right - left, bottom - top
    picture = Picture(
        number=number, medium=0, box=box, source_px=size, seen_px=(128, 128), parent=parent
    )
    return Turn(
        text=f'{thought}\n<tool_call>\n{{"name": "zoom_in", "arguments": {{"target_image": {parent}, "bbox_2d": '
        f"{called}}}}}\n</tool_call>",
        parts=(ToolCall(name="zoom_in", arguments={"target_image": parent, "bbox_2d": called}),),
        observations=(Observation(text=f"Picture {number} shows it.", pictures=(picture,)),),
    )


def rejected_zoom(
    why: CallErrorKind = CallErrorKind.BAD_BOX, text: str = "box is inverted: give [x1, y1, x2, y2]"
) -> Turn:
    """Return a turn with a rejected zoom."""
    return Turn(
        text='Let me see. <tool_call>{"name": "zoom_in", "arguments": {"bbox_2d": [0.5, 0, 0.1, 1]}}</tool_call>',
        parts=(ToolCall(name="zoom_in", arguments={"bbox_2d": [0.5, 0, 0.1, 1]}),),
        observations=(Observation(text=text, error=why),),
        mistake=True,
    )


def answer(text: str) -> Turn:
    """Return the last turn."""
    return Turn(text=f"Now I can read it.\n\\boxed{{{text}}}")


def picture_trace(
    path: Path, *turns: Turn, about: dict[str, Any] | None = None, **fields: Any
) -> Trace:
    """Return a trace about one picture. `about` sets fields of the question, `fields` those of the trace."""
    question = {
        "id": "attribute-1",
        "text": "Which digit is on the red disc?",
        "media": (MediaItem(kind="image", path=str(path)),),
        "answer": ("6",),
        "category": "attribute",
        "needs_look": True,
        "evidence": Evidence(boxes=(Box(0.23, 0.28, 0.27, 0.33),)),
        **(about or {}),
    }
    defaults = {
        "pictures": (Picture(number=1, medium=0, source_px=SIZE, seen_px=SEEN),),
        "stop": StopReason.ANSWERED,
        "settings": SETTINGS,
        "seconds": 2.34,
    }
    return Trace(question=Question(**question), turns=turns, **{**defaults, **fields})


def video_trace(path: Path) -> Trace:
    """Return a trace that selects two frames of a clip."""
    frames = tuple(
        Picture(
            number=n,
            medium=0,
            frame=n,
            time_s=(n - 1) / 2,
            box=WHOLE,
            source_px=(480, 352),
            seen_px=(96, 64),
        )
        for n in range(1, NUM_FRAMES + 1)
    )
    chosen = tuple(
        frames[n - 1].model_copy(
            update={"number": NUM_FRAMES + at, "seen_px": (256, 192), "parent": n}
        )
        for at, n in enumerate((4, 7), start=1)
    )
    zoomed = Turn(
        text='<tool_call>{"name": "select_frames", "arguments": {"target_frames": [4, 7]}}</tool_call>',
        parts=(ToolCall(name="select_frames", arguments={"target_frames": [4, 7]}),),
        observations=(Observation(text="Frames 4 and 7.", pictures=chosen),),
    )
    return Trace(
        question=Question(
            id="video-1",
            text="Which digit appears on the disc?",
            media=(MediaItem(kind="video", path=str(path)),),
            answer=("7",),
            category="video",
            needs_look=True,
            evidence=Evidence(frames=(4, 5)),
        ),
        pictures=frames,
        turns=(zoomed, answer("1")),
        stop=StopReason.ANSWERED,
        answer="1",
        settings=SETTINGS,
        seconds=4.2,
    )


def all_traces(folder: Path) -> dict[str, Trace]:
    """Return one trace of every kind, by name."""
    scene = draw_scene(folder / "scene.png")
    near = Box(0.125, 0.15, 0.375, 0.45)
    nearer = Box(0.2, 0.24, 0.3, 0.36)

    def about(name: str, **more: Any) -> dict[str, Any]:
        return {"id": name, **more}

    overview = about(
        "count-1", category="overview/count", needs_look=False, text="How many discs are there?"
    )
    hostile = about(HOSTILE, text=HOSTILE, category=HOSTILE)
    return {
        "zoom": picture_trace(scene, zoom(2, near), answer("6"), answer="6"),
        "zoom into zoom": picture_trace(
            scene,
            zoom(2, near),
            zoom(3, nearer, parent=2, thought="Closer.", outer=near),
            answer("8"),
            answer="8",
            about=about("attribute-2"),
        ),
        "refusal": picture_trace(
            scene,
            rejected_zoom(),
            zoom(2, nearer),
            answer("6"),
            answer="6",
            about=about("attribute-3"),
        ),
        "video": video_trace(write_clip(folder / "clip.mp4")),
        "failed": picture_trace(
            folder / "broken.png",
            pictures=(),
            stop=StopReason.FAILED,
            error="not a picture: broken.png",
            about=about("failed-1"),
        ),
        "missing media": picture_trace(
            folder / "gone.png", zoom(2, near), answer("6"), answer="6", about=about("gone-1")
        ),
        "hostile": picture_trace(
            scene, zoom(2, near, thought=HOSTILE), answer(HOSTILE), answer=HOSTILE, about=hostile
        ),
        "no expected answer": picture_trace(
            scene, answer("6"), answer="6", about=about("free-1", answer=(), evidence=None)
        ),
        "no answer": picture_trace(
            scene,
            Turn(text="I am not sure what to say."),
            stop=StopReason.NO_ANSWER,
            about=overview,
        ),
        "no turns": picture_trace(scene, stop=StopReason.MAX_CONTEXT, about=about("none-1")),
    }
