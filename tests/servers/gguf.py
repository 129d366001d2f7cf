"""Write the bundled model as GGUF files, with the converter of llama.cpp.

LLAMA_CPP=~/llama.cpp .venv/bin/python tests/servers/gguf.py OUT_FOLDER

The converter detects pre-tokenizers by a list of fingerprints, which lacks this one. It keeps words with underscores whole and
splits digits. Of those in llama.cpp, Bloom's splits all texts of PixelWorld into the same ids.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

MODEL = Path(__file__).resolve().parents[2] / "src" / "pixel_reasoner" / "tiny" / "weights"


def main() -> None:
    checkout, out = Path(os.environ["LLAMA_CPP"]), Path(sys.argv[1])
    sys.path[:0] = [str(checkout), str(checkout / "gguf-py")]
    import convert_hf_to_gguf as converter
    from conversion import base

    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "bloom"
    base.TextModel._set_vocab_sentencepiece = (
        _none  # tried first; sentencepiece may not be installed
    )
    out.mkdir(parents=True, exist_ok=True)
    for name, more in (("tiny.gguf", []), ("tiny-mmproj.gguf", ["--mmproj"])):
        sys.argv = ["", str(MODEL), "--outtype", "f32", "--outfile", str(out / name), *more]
        converter.main()


def _none(self: object) -> None:
    raise FileNotFoundError("no tokenizer.model")


if __name__ == "__main__":
    main()
