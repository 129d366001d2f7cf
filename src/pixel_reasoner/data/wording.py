"""Sentence templates of synthesized traces.

`{subject}` is the subject of the question (`the red circle`), `{finding}` the content of a crop (`the red circle
carries R`),
`{where}` its place in the picture (`upper left`), `{why}` the reason for a rejected call.
"""

from __future__ import annotations

import random

from pixel_reasoner.operations.frames import select_frames
from pixel_reasoner.operations.zoom import zoom_in
from pixel_reasoner.schema.geometry import Box

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
ZOOM = zoom_in.synthesis
SELECT = select_frames.synthesis
SELECT_REST = (
    "Now the other frames.",
    "I look at the rest of the frames too.",
)
NOT_HERE = (
    "This part does not show {subject}. I look for it in the {where}.",
    "{subject} is not in this part but in the {where}. I looked at the wrong place.",
    "That was the wrong place: I see {subject} in the {where}.",
)
NOT_IN_THESE = (
    "These frames do not show {subject}. I have to look at others.",
    "{subject} is not in these frames. I chose the wrong ones.",
)
MISSED = (
    "This does not show {subject}. I look in the right place.",
    "That was the wrong place: {subject} is elsewhere.",
)
MISSED_TIME = (
    "{subject} is not in these frames. I chose the wrong time.",
    "These frames do not show {subject}. I look between the right ones.",
)
TOO_WIDE = (
    "I see {subject}, but it is still too small. I zoom in further.",
    "{subject} is in this part, but I need to get closer.",
    "This shows {subject} and much besides. A closer look will tell.",
)
REPAIR = (
    "The call was refused: {why}. I correct it to see {subject}.",
    "That call was not allowed ({why}). I try again, to look at {subject}.",
)
AT_ONCE = (
    "I can see this at once: {finding}.",
    "No closer look is needed: {finding}.",
    "This is large enough to see: {finding}.",
)
FOUND = ("{finding}.", "Now I can see it: {finding}.", "Here {finding}.")
GUESS = (
    "{subject} is too small to make out, so I guess.",
    "I cannot make out {subject}; this is a guess.",
)
_ROWS = ("upper", "middle", "lower")
_COLUMNS = ("left", "centre", "right")


def describe_place(box: Box) -> str:
    """Return the place of a region in words.

    >>> describe_place(Box(0.1, 0.7, 0.3, 0.9))
    'lower left'
    """
    row, column = (
        names[min(int((low + high) / 2 * 3), 2)]
        for names, low, high in ((_ROWS, box.y1, box.y2), (_COLUMNS, box.x1, box.x2))
    )
    return f"{row} {column}"


def fill_template(rng: random.Random, templates: tuple[str, ...], **parts: str) -> str:
    """Return a random template, filled in, as a sentence.

    >>> fill_template(random.Random(0), ("{subject} is small.",), subject="the red circle")
    'The red circle is small.'
    """
    text = rng.choice(templates).format(**parts)
    return text[:1].upper() + text[1:]
