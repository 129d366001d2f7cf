"""What experts say, in many words: templates of the synthesized traces.

`{subject}` is what the question is about (`the red circle`), `{finding}` what a look shows (`the red circle
carries R`), `{why}` why a call was refused.
"""

from __future__ import annotations

import random

WHOLE_PICTURE = (
    "I look at the whole picture first.",
    "First the picture as a whole.",
    "Let me see what the picture shows as a whole.",
)
WHOLE_VIDEO = (
    "I look through the frames first.",
    "First the clip as a whole.",
    "Let me go through the frames of the video.",
)
ZOOM = (
    "I need a closer look at {subject}.",
    "{subject} is too small to make out, so I zoom in.",
    "Now I zoom in to see {subject} more clearly.",
    "To be sure, I look closer at {subject}.",
)
SELECT = (
    "I need a closer look at the frames that show {subject}.",
    "Now I select the frames with {subject}.",
    "{subject} is too small to make out here, so I select its frames.",
)
NOT_HERE = (
    "This part does not show {subject}. I have to look elsewhere.",
    "{subject} is not in this part. I looked at the wrong place.",
    "That was the wrong place: I do not see {subject} here.",
)
NOT_IN_THESE = (
    "These frames do not show {subject}. I have to look at others.",
    "{subject} is not in these frames. I chose the wrong ones.",
)
TOO_WIDE = (
    "I see {subject}, but it is still too small. I zoom in further.",
    "{subject} is in this part, but I need to get closer.",
    "This shows {subject} and much besides. A closer look will tell.",
)
REPAIR = (
    "The call was refused: {why}. I correct it.",
    "That call was not allowed ({why}). I try again.",
)
AT_ONCE = (
    "I can see this at once: {finding}.",
    "No closer look is needed: {finding}.",
    "This is large enough to see: {finding}.",
)
FOUND = ("{finding}.", "Now I can see it: {finding}.", "Here {finding}.")
GUESS = ("It is too small to make out, so I guess.", "I cannot make it out; this is a guess.")


def say(rng: random.Random, templates: tuple[str, ...], **parts: str) -> str:
    """One of the templates, filled in, as a sentence.

    >>> say(random.Random(0), ("{subject} is small.",), subject="the red circle")
    'The red circle is small.'
    """
    text = rng.choice(templates).format(**parts)
    return text[:1].upper() + text[1:]
