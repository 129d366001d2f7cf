"""Episodes of adapters: a framework generates, and trace, pictures and reward are those of our own rollouts."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from episode_fixture import MAX_TURNS, asked, contents, pixels, reward_of, texts_of, world_question
from pixel_reasoner.errors import UsageError
from pixel_reasoner.integrations.episode import (
    Episode,
    openai_messages,
    pixelworld_questions,
    read_question,
    rollout_metrics,
    score_group,
)
from pixel_reasoner.schema.settings import RolloutConfig, RolloutLimits
from pixel_reasoner.schema.trace import StopReason, Trace
from pixel_reasoner.scoring.rewards import RewardConfig, Variant


def played(question, texts, model="tiny", **step) -> Trace:
    config = RolloutConfig(limits=RolloutLimits(max_turns=MAX_TURNS), strict=True)
    episode = Episode(question, model, config)
    for number, text in enumerate(texts):
        assert episode.is_done is False
        seen = len(episode.messages())
        new = episode.step(text, **step)
        assert new == ([] if episode.is_done else episode.messages()[seen + 1 :])
        assert len(new) == (number < len(texts) - 1)
    return episode.trace()


@pytest.mark.parametrize("model", ["tiny", "pixel_reasoner"])
def test_an_episode_has_trace_pictures_and_reward_of_our_own_rollout(tmp_path, model):
    question = world_question(tmp_path)
    texts = texts_of(question)
    if model != "tiny":  # the texts are calls of another dialect
        texts = texts[-1:]
    ours, theirs = asked(question, texts, model), played(question, texts, model)
    assert contents(theirs) == contents(ours)
    assert pixels(theirs) == pixels(ours)
    assert reward_of(theirs) == reward_of(ours) == (0.95 if model == "tiny" else 1.0)
    if model == "tiny":
        assert (len(ours.executed), len(ours.rejected), len(pixels(ours))) == (2, 1, 3)


def test_pictures_in_messages_keep_their_pixels(tmp_path):
    question = world_question(tmp_path)
    episode = Episode(question)
    (sent,) = [
        part["image_url"]["url"]
        for message in openai_messages(episode.messages())
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    decoded = Image.open(io.BytesIO(base64.b64decode(sent.partition("base64,")[2])))
    assert decoded.tobytes() == pixels(episode.trace())[0]


def test_an_episode_that_the_framework_ends_is_a_trace_without_an_answer(tmp_path):
    question = world_question(tmp_path)
    cut_off = played(question, texts_of(question)[-1:], truncated=True)
    assert (cut_off.stop, cut_off.answer, reward_of(cut_off)) == (
        StopReason.MAX_NEW_TOKENS,
        None,
        0,
    )
    episode = Episode(question)
    episode.step(texts_of(question)[0])
    assert episode.trace().stop is StopReason.MAX_CONTEXT
    assert rollout_metrics(episode.trace())["answered"] == 0


def test_curiosity_needs_the_group(tmp_path):
    question = world_question(tmp_path)
    looked, guessed = asked(question, texts_of(question)), asked(question, [r"\boxed{nothing}"])
    config = RewardConfig(H=0.9, beta=0.0)
    terms = score_group([looked, guessed, guessed, guessed], config)
    assert terms.curiosity_G == pytest.approx([0.5 * (0.9 - 0.25), 0, 0, 0])
    for variant in Variant:
        for trace in (looked, guessed):
            alone = RewardConfig(H=1.0, variant=variant)
            assert score_group([trace], alone).curiosity_G == [0.0]


def test_questions_of_a_row_and_of_pixelworld_are_the_same(tmp_path):
    first, second = pixelworld_questions(tmp_path, ("attribute",), "test", 3, 2)
    assert read_question(first.to_line()) == first
    assert first.id != second.id
    assert all((tmp_path / one.path).is_absolute() for one in first.media)
    (again,) = pixelworld_questions(tmp_path, ("attribute",), "test", 4, 1)
    assert again == second
    with pytest.raises(UsageError, match="a model folder, a hub id"):
        Episode(first, "no such model")
