"""Displayed metrics: one number per CSV cell, unknown is not zero, one progress line, a model card with the base model."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest

from pixel_reasoner.evals.stats import summarize
from pixel_reasoner.models.openai_reply import completion
from pixel_reasoner.reports.metrics import groups_section
from pixel_reasoner.reports.summary import RunSummary
from pixel_reasoner.reports.tables import write_table
from pixel_reasoner.schema.question import Question
from pixel_reasoner.schema.trace import StopReason, Trace, Turn
from pixel_reasoner.sources.pixelworld import WorldMix
from pixel_reasoner.train.config import RlRun, SftRun
from pixel_reasoner.train.model_card import model_card


def trace(number: int, **turn: object) -> Trace:
    question = Question(id=str(number), text="How many?", media=(), answer=("2",), category="sums")
    text = r"\boxed{2}" if number % 2 else r"\boxed{3}"
    from pixel_reasoner.schema.settings import RunSettings

    return Trace(
        question=question,
        pictures=(),
        turns=(Turn(text=text, **turn),),
        stop=StopReason.ANSWERED,
        answer="2",
        settings=RunSettings(),
    )


# --- tokens of a server ---


def test_token_counts_of_a_server_are_in_the_completion():
    reply = {"choices": [{"message": {"content": "Yes."}}], "usage": {"completion_tokens": 7}}
    assert completion(reply).num_new_tokens == 7
    del reply["usage"]
    assert completion(reply).num_new_tokens is None


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}, {"audio_tokens": 0}])
def test_cached_tokens_of_a_server_are_0_if_it_does_not_report_them(details):
    reply = {"choices": [{"message": {"content": "Yes."}}]}
    usage = {"prompt_tokens": 9, "prompt_tokens_details": details}
    assert completion(reply | {"usage": usage}).num_cached_tokens == 0
    usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}
    assert completion(reply | {"usage": usage}).num_cached_tokens == 8


def test_new_tokens_of_a_server_are_its_count_or_unknown():
    counted = [trace(1, num_completion_tokens=10), trace(2, num_completion_tokens=20)]
    assert summarize(counted)["new_tokens_per_question"] == 15
    assert summarize([trace(1)])["new_tokens_per_question"] is None
    assert summarize([*counted, trace(3)])["new_tokens_per_question"] == 15
    assert summarize([trace(1, token_ids=[1, 2, 3])])["new_tokens_per_question"] == 3


# --- tables ---


def test_a_cell_of_a_csv_table_is_empty_or_one_number(tmp_path):
    section = groups_section(RunSummary.model_validate(summarize([trace(n) for n in range(8)])))
    write_table(section, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header[:5] == ["group", "questions", "accuracy", "95 % low", "95 % high"]
    assert len(set(header)) == len(header)
    for row in rows:
        assert len(row) == len(header)
        assert all(not cell or float(cell) >= 0 for cell in row[1:])
    low, high = section.rows[0][3]
    assert [float(cell) for cell in rows[0][3:5]] == [low, high]


def test_a_metric_without_a_value_has_no_column():
    section = groups_section(RunSummary.model_validate(summarize([trace(1)])))
    titles = [column.title for column in section.columns]
    assert "new tokens" not in titles
    assert "gain" not in titles
    assert "accuracy" in titles


# --- model card ---


@pytest.mark.extras
def test_a_model_card_names_its_base_model_and_data(tmp_path):
    hub = model_card(SftRun(traces=("a",), out="runs/sft", model="Qwen/Qwen2.5-VL-7B-Instruct"))
    assert "base_model: Qwen/Qwen2.5-VL-7B-Instruct" in hub
    assert "# sft" in hub
    assert "all weights; vision tower frozen" in hub
    mix = WorldMix(count=8)
    local = model_card(RlRun(out="runs/rl", pixelworld=mix, model=str(tmp_path), lora_rank=8))
    assert "base_model" not in local
    assert f"`{tmp_path.name}` after curiosity-driven RL" in local
    assert "LoRA of rank 8" in local
    assert str(tmp_path) not in local  # local paths are private
    assert "None" not in hub + local


# --- training ---


@pytest.mark.extras
def test_training_prints_one_progress_line(capsys):
    from transformers.trainer_callback import ProgressCallback

    from pixel_reasoner.train.callbacks import ProgressBarCallback, show_one_progress_line

    kinds = [ProgressCallback]
    trainer = SimpleNamespace(
        args=SimpleNamespace(disable_tqdm=False),
        remove_callback=kinds.remove,
        add_callback=lambda callback: kinds.append(type(callback)),
    )
    show_one_progress_line(trainer)
    assert kinds == [ProgressBarCallback]
    postfixes: list[dict] = []
    bar = ProgressBarCallback()
    bar.training_bar = SimpleNamespace(set_postfix=postfixes.append)
    state = SimpleNamespace(is_world_process_zero=True)
    bar.on_log(None, state, None, {"loss": 1.5, "grad_norm": 3.0, "mean_token_accuracy": 0.25})
    assert postfixes == [{"loss": "1.50", "token accuracy": "0.25"}]
    assert capsys.readouterr().out == ""
