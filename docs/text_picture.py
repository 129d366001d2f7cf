"""Draw a trace that `synth text` writes about a letter, for docs/synthesize.md.

python docs/text_picture.py        # writes docs/text-trace.webp
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from pixel_reasoner.data.expert import Kind, classify_trace
from pixel_reasoner.evals.run import load_run
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.workflows.synthesize import SynthSpec, synthesize

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "benchmarks"))

from text_documents import letter, write_pdf  # noqa: E402 - a file of this repository


def main() -> None:
    """Write the picture and print its alternative text."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pdf(folder / "letter.pdf", letter(random.Random(4)))
        # In a picture of a megapixel, 12 points are 20 pixels.
        spec = SynthSpec(
            source="text",
            data=folder / "letter.pdf",
            out=folder / "traces",
            model="compact",
            legible_px=24,
            per_page=40,
            text_share=0.0,
        )
        synthesize(spec)
        trace = next(one for one in load_run(spec.out, [folder]) if _is_example(one))
        print(trace.question.text, trace.answer)
        print(trace.save_strip(DOCS / "text-trace.webp").alt_text)


def _is_example(trace: Trace) -> bool:
    return classify_trace(trace) == Kind.WRONG_ONCE and "key_value" in trace.question.category


if __name__ == "__main__":
    main()
