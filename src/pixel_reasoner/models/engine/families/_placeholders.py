"""Errors for prompts whose placeholders do not match their images."""

from __future__ import annotations

from pixel_reasoner.errors import InputError


def check_placeholders(num_placeholders: int, num_images: int) -> None:
    """Raise `InputError` unless a prompt has one placeholder for each image."""
    if num_placeholders != num_images:
        raise InputError(
            expected=f"{num_images} image placeholders in the prompt, one for each image",
            got=f"{num_placeholders}",
            fix="remove the model's own image token from the text of the messages",
        )
