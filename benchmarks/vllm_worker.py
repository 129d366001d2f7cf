"""Greedy replies of vLLM to the questions of `vllm_families.py`; runs in the environment of vLLM.

.venv-vllm/bin/python benchmarks/vllm_worker.py MODEL_FOLDER QUESTIONS.json ANSWERS.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    from PIL import Image
    from vllm import LLM, SamplingParams

    folder, questions, answers = sys.argv[1:]
    given = json.loads(Path(questions).read_text())
    model = LLM(
        folder,
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        max_num_seqs=8,
        limit_mm_per_prompt={"image": 1, "video": 0},
        mm_processor_cache_gb=0.1,
    )
    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=given["new"],
        ignore_eos=True,
        logit_bias=dict.fromkeys(given["banned"], -100.0),
    )
    prompts = [
        {
            "prompt_token_ids": row["ids"],
            "multi_modal_data": {"image": Image.open(row["image"]).convert("RGB")},
        }
        for row in given["rows"]
    ]
    found = [
        {"prompt": list(one.prompt_token_ids), "ids": list(one.outputs[0].token_ids)}
        for one in model.generate(prompts, sampling, use_tqdm=False)
    ]
    Path(answers).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
