"""Pixel Reasoner as a Gradio app, for a Space of Hugging Face or any computer.

    pip install -r requirements.txt
    python app.py

The model is the bundled one. Variables of the environment choose another: MODEL (a folder or hub id), or ENDPOINT (address of an
OpenAI-compatible server) with MODEL (name on that server) and the secret OPENAI_API_KEY.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

import pixel_reasoner as pr
from pixel_reasoner.schema.events import CallParsed, Event, Failed, Finished, TurnStarted
from pixel_reasoner.workflows.world import demo_questions

MAX_RUNNING, MAX_WAITING = 4, 32
MAX_FILE_SIZE = "64mb"
TIME_LIMIT_S = 120.0
BUNDLED_NOTE = (
    "The bundled model has 2.3 million parameters. It reads, counts and compares in the drawn scenes, charts and clips below. "
    "It cannot answer questions about photos or documents: it will guess."
)
INTRO = """# Pixel Reasoner
Ask about a picture or clip, and see where the model looks. It sees the picture small at first. When it needs detail, it zooms in
on the original."""

name, endpoint = os.environ.get("MODEL"), os.environ.get("ENDPOINT", ())
model = pr.load(name, endpoint=endpoint)
is_bundled = not endpoint and model.name == "tiny"
samples = demo_questions(Path(tempfile.mkdtemp())) if is_bundled else []


async def ask(
    picture: str | None, clip: str | None, question: str, zoom: bool
) -> AsyncIterator[tuple[str, str, str]]:
    """Yield the answer, the steps as Markdown, and the trace as HTML, while the model works."""
    medium = picture or clip
    if not medium or not question.strip():
        raise gr.Error("Choose a picture or a clip, and type a question.")
    options: dict[str, Any] = {} if zoom else {"operations": ()}
    lines: list[str] = []
    try:
        async for event in model.events(question, medium, deadline_s=TIME_LIMIT_S, **options):
            if isinstance(event, Finished):
                answer = event.trace.answer or f"no answer: {event.trace.stop.value}"
                yield answer, "", event.trace._repr_html_()
            elif isinstance(event, Failed):
                raise gr.Error("The model failed. Try again.")
            elif line := line_of(event):
                lines.append(line)
                yield "", "\n".join(lines), ""
    except pr.PixelReasonerError as error:
        raise gr.Error(f"Expected {error.expected}; got {error.got}.") from error


def line_of(event: Event) -> str:
    """Return what happens as a line of a list; empty for an event that is not shown."""
    if isinstance(event, TurnStarted):
        return f"{event.turn + 1}. It thinks."
    if isinstance(event, CallParsed):
        return f"    - It uses {event.call.name.replace('_', ' ')}."
    return ""


def sample_row(sample: pr.Question) -> list[str | None]:
    """Return the inputs for a sample: picture, clip, question."""
    path = sample.media[0].path
    is_clip = sample.media[0].kind == "video"
    return [None if is_clip else path, path if is_clip else None, sample.text]


def build() -> gr.Blocks:
    """Return the app."""
    with gr.Blocks(title="Pixel Reasoner", analytics_enabled=False) as app:
        gr.Markdown(f"{INTRO}\n\n{BUNDLED_NOTE if is_bundled else f'Model: {model.name}'}")
        with gr.Row():
            with gr.Column(scale=1):
                with gr.Tab("Picture"):
                    picture = gr.Image(type="filepath", label="Picture", height=280)
                with gr.Tab("Clip"):
                    clip = gr.Video(label="Clip", height=280)
                question = gr.Textbox(label="Question", placeholder="What does the small sign say?")
                zoom = gr.Checkbox(True, label="Let the model zoom in")
                with gr.Row():
                    button, stop = gr.Button("Ask", variant="primary"), gr.Button("Stop")
                answer = gr.Textbox(label="Answer", interactive=False)
                steps = gr.Markdown()
            with gr.Column(scale=2):
                trace = gr.HTML(label="Where the model looked")
        if samples:
            rows = [sample_row(one) for one in samples]
            gr.Examples(rows, [picture, clip, question], label="Samples that the model solves")
        running = gr.on(
            [button.click, question.submit],
            ask,
            [picture, clip, question, zoom],
            [answer, steps, trace],
            api_name="ask",
            concurrency_limit=MAX_RUNNING,
        )
        picture.upload(lambda: None, None, clip, api_visibility="private")  # one of both
        clip.upload(lambda: None, None, picture, api_visibility="private")
        stop.click(None, cancels=[running], api_visibility="private")
    return app.queue(max_size=MAX_WAITING)


if __name__ == "__main__":
    build().launch(max_file_size=MAX_FILE_SIZE, show_error=True)
