"""Does SFT on questions about documents raise the accuracy of the bundled model on other documents?

.venv/bin/python benchmarks/text_training.py FOLDER [TRAIN_PAGES] [TEST_PAGES] [EPOCHS]

Training: slips with labels and tables. Test: receipts with dots and forms in two columns, with other words and numbers. Prints the
accuracy of the bundled model on the test documents before and after, by kind of question. Each part is resumed.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

from text_documents import WORDS, Page, write_pdf

SIZE = (298, 420)  # A6: text of 12 points is legible in the crops of the bundled model
TOOL = [sys.executable, "-m", "pixel_reasoner.cli"]


def value(rng: random.Random, words: list[str]) -> str:
    """Return a number of two to four digits, or a word."""
    return str(rng.randint(10, 9999)) if rng.random() < 0.7 else rng.choice(words)


def slip(rng: random.Random, words: list[str]) -> Page:
    """Return labels with values, and a table."""
    page, font = Page(SIZE), rng.choice((0, 1, 3))
    page.write(25, 45, rng.choice(words).capitalize(), 18, font)
    left = rng.randint(20, 40)
    for number, label in enumerate(rng.sample(words, 5)):
        page.write(left, 80 + 24 * number, f"{label.capitalize()}:", 12, font)
        page.write(left + rng.randint(90, 95), 80 + 24 * number, value(rng, words), 12, font)
    columns = [left, left + 100, left + 165]
    for x, heading in zip(columns, rng.sample(words, 3), strict=True):
        page.write(x, 230, heading.capitalize()[:8], 12, font)
    for row, label in enumerate(rng.sample(words, 6)):
        for x, cell in zip(
            columns, (label, str(rng.randint(10, 999)), str(rng.randint(1, 99))), strict=True
        ):
            page.write(x, 255 + 22 * row, cell, 12, font)
    return page


def receipt(rng: random.Random, words: list[str]) -> Page:
    """Return labels with values behind dots."""
    page, font = Page(SIZE), rng.choice((0, 1, 3))
    page.write(90, 40, rng.choice(words).capitalize(), 20, font)
    for row, label in enumerate(rng.sample(words, 12)):
        page.write(40, 75 + 26 * row, f"{label} {'.' * 14}", 12, font)
        page.write(200, 75 + 26 * row, value(rng, words), 12, font)
    return page


def form(rng: random.Random, words: list[str]) -> Page:
    """Return labels with a colon in two columns, each with its value in the same line."""
    page, font = Page(SIZE), rng.choice((0, 1, 3))
    page.write(25, 400, rng.choice(words).capitalize(), 17, font)
    for row in range(9):
        for x in (20, 160):
            page.write(
                x, 40 + 38 * row, f"{rng.choice(words).capitalize()}: {value(rng, words)}", 11, font
            )
    return page


def write_pages(folder: Path, count: int, layouts: tuple, words: list[str]) -> None:
    """Write documents of one page."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = random.Random(f"{folder.name}/{number}")
        page = layouts[number % len(layouts)](rng, words)
        write_pdf(folder / f"{number:05}.pdf", [page])


def run(*arguments: object) -> None:
    """Run a command of the package."""
    subprocess.run([*TOOL, *map(str, arguments)], check=True)


def accuracy(folder: Path) -> dict[str, tuple[int, int]]:
    """Return (right, all) by kind of question."""
    from pixel_reasoner.schema.trace import load_traces
    from pixel_reasoner.scoring.grading import is_right

    counts: dict[str, tuple[int, int]] = {}
    for trace in load_traces(folder / "traces.jsonl"):
        for kind in (trace.question.category, "all"):
            right, number = counts.get(kind, (0, 0))
            counts[kind] = right + is_right(trace), number + 1
    return counts


def main() -> None:
    """Run all parts and print the table."""
    folder = Path(sys.argv[1]).absolute()
    num_train, num_test, epochs = (int(one) for one in (*sys.argv[2:], 300, 50, 3)[:3])
    train_words, test_words = WORDS[::2], WORDS[1::2]
    write_pages(folder / "train", num_train, (slip,), train_words)
    write_pages(folder / "test", num_test, (receipt, form), test_words)
    for name in ("train", "test"):
        run(
            "synth",
            "text",
            "--data",
            folder / name,
            "--count",
            100_000,
            "--out",
            folder / f"{name}-traces",
        )
    run("check", folder / "train-traces")
    run("export", folder / "test-traces", "--to", "questions", "--out", folder / "rows")
    config = folder / "sft.toml"
    config.write_text(
        f'traces = ["train-traces"]\nout = "sft"\nmodel = "tiny"\ntrain_vision = true\nbatch_size = 16\n[trl]\nlearning_rate = 5e-4\n'
        f'num_train_epochs = {epochs}\nlr_scheduler_type = "cosine"\nwarmup_steps = 10\nper_device_train_batch_size = 8\nsave_steps = 20\nreport_to = "none"\n'
    )
    evaluation = ("eval", "jsonl", "--data", folder / "rows", "--allow-media", folder / "test")
    run(*evaluation, "--model", "tiny", "--out", folder / "before")
    run("train", "sft", config)
    run(*evaluation, "--model", folder / "sft" / "model", "--out", folder / "after")
    before, after = accuracy(folder / "before"), accuracy(folder / "after")
    print(
        json.dumps(
            {kind: {"before": before[kind], "after": after[kind]} for kind in sorted(before)},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
