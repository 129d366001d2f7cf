"""Insert the table of benchmarks into a page: `python -m pixel_reasoner.evals.benchmarks docs/evaluate.md`."""

import sys
from pathlib import Path

from pixel_reasoner.evals.benchmarks import insert_table
from pixel_reasoner.files import atomic_writer

if __name__ == "__main__":
    page = Path(sys.argv[1])
    text = insert_table(page.read_text(encoding="utf-8"))
    with atomic_writer(page) as file:
        file.write(text)
