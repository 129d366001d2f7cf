"""Speed of vLLM on the questions of `parts.engine`; prints one JSON object. Runs in the environment of vLLM.

VLLM_PYTHON vllm_speed.py MODEL COUNT NEW_TOKENS
"""

import json
import sys
import time

from PIL import Image
from transformers import AutoTokenizer
from vllm import LLM, SamplingParams


def prompts(model, count, seed):
    """Return prompts as ids with one placeholder per picture: vLLM expands it."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    start, pad, end = tokenizer.convert_tokens_to_ids(
        ["<|vision_start|>", "<|image_pad|>", "<|vision_end|>"]
    )
    for number in range(count):
        image = Image.effect_noise((896, 896), 32 + (seed * count + number) % 64).convert("RGB")
        text = tokenizer(f"What is in picture {number}? " + "word " * 40)["input_ids"]
        ids = [start, pad, end, *text]
        yield {"prompt_token_ids": ids, "multi_modal_data": {"image": image}}


def main():
    model, count, new_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    engine = LLM(
        model=model,
        max_model_len=4096,
        max_num_seqs=count,
        gpu_memory_utilization=0.6,
        enforce_eager=count < 8,
        limit_mm_per_prompt={"image": 1},
        mm_processor_kwargs={"min_pixels": 896 * 896, "max_pixels": 896 * 896},
    )
    found = {}
    for seed in range(2):  # the first run compiles
        questions = list(prompts(model, count, seed))
        first = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
        whole = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True)
        started = time.perf_counter()
        engine.generate(questions, whole, use_tqdm=False)
        total = time.perf_counter() - started
        started = time.perf_counter()
        engine.generate(list(prompts(model, count, seed + 10)), first, use_tqdm=False)
        prefill = time.perf_counter() - started
        found = {
            "sequences": count,
            "prefill_s": prefill,
            "decode_ms_per_step": (total - prefill) / max(1, new_tokens - 1) * 1e3,
            "generated_tokens_per_s": count * new_tokens / total,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
