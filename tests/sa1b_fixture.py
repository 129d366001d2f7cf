"""A small data set in the layout of SA-1B: grey pictures with cards of one colour each, and their masks."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from labeller_server import COLOURS, GREY

SIZE = (400, 300)
CARD = (18, 12)
COLUMNS = 4
"""places of cards across and down"""


def draw_sa1b(folder: Path, pictures: int, cards: int = 2) -> Path:
    """Write `pictures` files with `cards` cards each. Colours repeat only after all were used."""
    names = list(COLOURS)
    for number in range(pictures):
        colours = [names[(number * cards + nth) % len(names)] for nth in range(cards)]
        write_picture(folder, f"sa_{number}", colours)
    return folder


def write_picture(folder: Path, stem: str, colours: list[str], **changes) -> None:
    image = Image.new("RGB", SIZE, GREY)
    annotations = []
    for nth, name in enumerate(colours):
        x, y = 50 + 90 * (nth % COLUMNS), 50 + 65 * (nth // COLUMNS)
        image.paste(COLOURS[name], (x, y, x + CARD[0], y + CARD[1]))
        annotations.append(annotation(int(name.split()[1]), [x, y, *CARD]))
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / f"{stem}.jpg", quality=95, subsampling=0)
    row = {
        "image": {
            "image_id": 1,
            "width": SIZE[0],
            "height": SIZE[1],
            "file_name": f"{stem}.jpg",
        },
        "annotations": annotations,
    }
    (folder / f"{stem}.json").write_text(json.dumps(row | changes))


def annotation(number: int, bbox: list[float], **changes) -> dict:
    return {
        "id": number,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "predicted_iou": 0.97,
        "stability_score": 0.98,
        "crop_box": [0, 0, *SIZE],
        "point_coords": [[bbox[0] + 1, bbox[1] + 1]],
        "segmentation": {"size": [SIZE[1], SIZE[0]], "counts": "abc"},
    } | changes
