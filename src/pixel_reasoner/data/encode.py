"""Tokenization of traces for training: input ids and loss mask.

The chat template renders the trace and marks the assistant tokens (`{% generation %}`); without markers, `turn_mask` finds them. The
loss covers these tokens, except deliberate mistakes. This module does not import torch: the processor is an argument.

Departure from the upstream code, which trains the last two assistant turns with their headers: the loss covers every
assistant turn except mistakes and turns of strategies, with its end token and without its header.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from pixel_reasoner.data.turn_mask import has_markers, tokens_within, turn_spans
from pixel_reasoner.dialects import Dialect, Message, get_dialect
from pixel_reasoner.errors import InputError, ModelError
from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.models.folder import pixel_limits
from pixel_reasoner.models.processor_inputs import ProcessorInputs
from pixel_reasoner.schema.repairs import num_malformed_calls
from pixel_reasoner.schema.trace import Trace


class Encoded(NamedTuple):
    """Model input of one trace."""

    token_ids: list[int]
    trained: list[bool]
    """loss mask, one value per token"""
    inputs: dict[str, Any]
    """outputs of the processor: `input_ids`, `pixel_values`, ... for a batch of one"""
    pictures: list[Any]
    """pictures of the prompt and of tool results, in order"""


def conversation(trace: Trace) -> list[Message]:
    """Return the whole trace as chat messages with pixels.

    Raises:
        InputError: unusable media, or a trace that does not record its dialect.
    """
    dialect = _dialect(trace)
    context = MediaContext.of_trace(trace)
    operations = trace.settings.operations
    return dialect.messages(
        trace.question, trace.pictures, trace.turns, context.view, operations=operations
    )


def encode(trace: Trace, processor: Any, *, train_thoughts_before_mistakes: bool = True) -> Encoded:
    """Return the tokens and loss mask of a trace.

    Args:
        trace: trace whose media can be opened.
        processor: a transformers processor. Its chat template has `{% generation %}` markers, or keeps the turns as they are.
        train_thoughts_before_mistakes: whether the loss covers the text before a deliberate mistake (as in the paper),
        or
          nothing of that turn.

    Raises:
        InputError: unusable media, pictures that the model's image processor would resize again, or a trace that does
        not
          record its dialect.
        ModelError: a chat template without markers.
    """
    messages = conversation(trace)
    parts = [part for message in messages for part in message["content"]]
    pictures = [part["image"] for part in parts if part["type"] == "image"]
    _check_sizes(trace, pictures, processor.image_processor)
    is_marked = has_markers(str(processor.chat_template))
    if is_marked:
        out, mask = _marked_turns(messages, processor)
    else:
        turns = [turn.text for turn in trace.turns]
        out, mask = _rendered_turns(messages, turns, pictures, processor)
    ids = out["input_ids"][0].tolist()
    spans = list(_spans(mask))
    if len(spans) != len(trace.turns):
        raise ModelError(
            expected=f"a chat template that marks the {len(trace.turns)} turns of the assistant",
            got=f"{len(spans)} marked spans",
            fix="put {% generation %} and {% endgeneration %} around the assistant's text and end token",
        )
    for (first, end), turn in zip(spans, trace.turns, strict=True):
        if num_malformed_calls(turn.repairs) or turn.scripted:
            # A malformed form must not be learned, and a strategy wrote a scripted turn.
            mask[first:end] = [False] * (end - first)
        elif turn.mistake:
            words = _dialect(trace).strip_call(turn.text)
            words = words if train_thoughts_before_mistakes else ""
            kept = _tokens_within(words, ids[first:end], processor.tokenizer)
            mask[first + kept : end] = [False] * (end - first - kept)
    return Encoded(ids, mask, dict(out), pictures)


def _marked_turns(messages: list[Message], processor: Any) -> tuple[Any, list[bool]]:
    """Return the inputs of a conversation, and for each token whether the template marks it as the assistant's."""
    out = processor.apply_chat_template(
        messages,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"add_special_tokens": False},
    )
    return out, [bool(one) for one in out.pop("assistant_masks")[0].tolist()]


def _rendered_turns(
    messages: list[Message], turns: list[str], pictures: list[Any], processor: Any
) -> tuple[Any, list[bool]]:
    """Return the same for a template without markers, from the texts that it renders."""
    render = partial(processor.apply_chat_template, tokenize=False)
    tokens = [
        one.content for one in processor.tokenizer.added_tokens_decoder.values() if one.special
    ]
    spans = turn_spans(render, messages, turns, tokens)
    out = ProcessorInputs(processor).batch(
        [render(messages)],
        [pictures],
        return_tensors="pt",
        return_offsets_mapping=True,
        return_text_replacement_offsets=True,
    )
    offsets = out.pop("offset_mapping")[0].tolist()
    replaced = out.pop("text_replacement_offsets", None)
    return out, tokens_within(spans, offsets, replaced[0] if replaced else [])


def mask_spans(encoded: Encoded, processor: Any) -> list[tuple[bool, list[str]]]:
    """Return a trace as runs of tokens, without image tokens: whether the loss covers them, and their texts."""
    pairs = zip(encoded.trained, encoded.token_ids, strict=True)
    visual = ProcessorInputs(processor).visual_ids
    return [
        (
            trained,
            [processor.tokenizer.decode([token]) for _, token in group if token not in visual],
        )
        for trained, group in groupby(pairs, key=lambda pair: pair[0])
    ]


def _check_sizes(trace: Trace, pictures: list[Any], image_processor: Any) -> None:
    """Reject pictures that the image processor would resize, because pixel boxes would be wrong."""
    if pixel_limits(image_processor) is None:
        return  # it resizes every picture, and the boxes of its family are no pixels
    for picture in pictures:
        width, height = picture.size
        patches = image_processor.get_number_of_image_patches(height, width)
        if patches * image_processor.patch_size**2 != width * height:
            raise InputError(
                expected="pictures of sizes that the model's image processor does not change",
                got=f"{width} x {height} px in trace {trace.question.id}",
                fix="write the traces with `synth --model` and this model's folder",
            )


def _spans(mask: list[bool]) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each run of True values.

    >>> list(_spans([False, True, True, False, True]))
    [(1, 3), (4, 5)]
    """
    edges = [n for n, (a, b) in enumerate(pairwise([False, *mask, False])) if a != b]
    yield from zip(edges[::2], edges[1::2], strict=True)


def _dialect(trace: Trace) -> Dialect:
    if not trace.settings.dialect:
        raise InputError(
            expected="traces that record the dialect of their texts",
            got=f"trace {trace.question.id} without settings.dialect",
            fix="sample or synthesize it again with this version",
        )
    return get_dialect(trace.settings.dialect)


def _tokens_within(words: str, ids: list[int], tokenizer: Any) -> int:
    """Return the number of leading tokens that encode these words."""
    count = 0
    while count < len(ids) and len(tokenizer.decode(ids[: count + 1])) <= len(words):
        count += 1
    return count
