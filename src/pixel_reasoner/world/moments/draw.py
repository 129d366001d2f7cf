"""Painter of clips: backdrops with a lamp, a board and a tray, and the things that move in front of them."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pixel_reasoner.world.fonts import scaled_font
from pixel_reasoner.world.moments.frame_code import FrameCode, clip_code, write_frame_code
from pixel_reasoner.world.moments.params import SIZE
from pixel_reasoner.world.moments.script import TARGET_SIZE, TARGET_Y, Clip, Event, Shot, TargetKind
from pixel_reasoner.world.scene import COLORS

Pixels = NDArray[np.uint8]
PixelBox = tuple[int, int, int, int]
"""left, top, right and bottom edge (exclusive)"""
_W, _H = SIZE
_SCALE = 2
"""backdrops and sprites are drawn larger and reduced, for smooth edges"""
_FONT = 2


class Sprite(NamedTuple):
    """Small picture with transparency."""

    color: NDArray[np.uint16]
    """colour times opacity, 0 to 255 * 256; shape (height, width, 3)"""
    clear: NDArray[np.uint16]
    """transparency, 0 to 256; shape (height, width, 1)"""

    @classmethod
    def of(cls, picture: Image.Image) -> Sprite:
        """Return the sprite of an RGBA picture."""
        pixels = np.asarray(picture, np.float32)
        opaque = np.round(pixels[..., 3:] * (256 / 255))
        return cls((pixels[..., :3] * opaque).astype(np.uint16), (256 - opaque).astype(np.uint16))


class Places(NamedTuple):
    """Positions of the things of a shot in pixels."""

    lamp: tuple[int, int]
    board: PixelBox
    tray: PixelBox
    floor_y: int


class Backdrop(NamedTuple):
    """Empty scene of a shot."""

    picture: Pixels
    tray: Sprite
    """drawn over the person or van, which is behind it"""
    places: Places


def paste(frame: Pixels, sprite: Sprite, left: int, top: int) -> PixelBox | None:
    """Draw a sprite into a frame and return the visible box; None if it is outside."""
    height, width = sprite.clear.shape[:2]
    x1, y1, x2, y2 = max(0, left), max(0, top), min(_W, left + width), min(_H, top + height)
    if x1 >= x2 or y1 >= y2:
        return None
    part = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    at = (slice(y1, y2), slice(x1, x2))
    frame[at] = (frame[at] * sprite.clear[part] + sprite.color[part]) >> 8
    return x1, y1, x2, y2


class Painter:
    """Painter of the frames of one clip."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self.code = clip_code(clip.id)
        """of the clip, in its frame codes"""
        self._shot = 0
        self._backdrops: dict[int, Backdrop] = {}

    def frame(self, number: int) -> Pixels:
        """Return a frame, upright: shape (360, 640, 3). Frames are painted fastest in order."""
        index = self._shot_at(number)
        shot, picture = self.clip.shots[index], self._shot_frame(index, number)
        done = number - shot.first
        if done < shot.dissolve:
            before = self._shot_frame(index - 1, shot.first - 1)
            share = (done + 1) / (shot.dissolve + 1)
            picture = (before * (1 - share) + picture * share + 0.5).astype(np.uint8)
        write_frame_code(picture, FrameCode(self.code, number))
        return picture

    def is_still(self, number: int) -> bool:
        """Return whether a frame differs from the one before in its frame code alone."""
        shot = self.clip.shots[self._shot_at(number)]
        if number <= shot.first + shot.dissolve or shot.has_target:
            return False
        return not any(
            number in (event.first, event.end)
            or (event.kind == "object" and event.first <= number < event.end)
            for event in self.clip.events
        )

    def _shot_at(self, number: int) -> int:
        """Return the index of the shot of a frame."""
        shots = self.clip.shots
        if not shots[self._shot].first <= number < shots[self._shot].end:
            self._shot = next(n for n, one in enumerate(shots) if one.first <= number < one.end)
        return self._shot

    def target_boxes(self, number: int) -> tuple[PixelBox, ...]:
        """Return the visible boxes of the face or plate: in a dissolve up to two, otherwise at most one."""
        found, shots = [], self.clip.shots
        index = self._shot_at(number)
        shown = [(shots[index], number)]
        if number - shots[index].first < shots[index].dissolve:
            shown.append((shots[index - 1], shots[index].first - 1))
        for shot, frame in shown:
            x = self.clip.target_x(shot, frame)
            if x is not None and (box := target_box(self.clip.target, x)) is not None:
                found.append(box)
        return tuple(found)

    def event_box(self, event: Event, number: int) -> PixelBox:
        """Return the box of an event in one of its frames."""
        places = self._backdrop(event.shot).places
        if event.kind == "light":
            x, y = places.lamp
            return x - 17, y - 12, x + 17, y + 16
        if event.kind == "number":
            return places.board
        if event.kind == "placed":
            left, top, right, _ = places.tray
            middle = (left + right) // 2
            return middle - 22, top - 21, middle + 22, top + 3
        left = self._ball_left(event, number)
        top = places.floor_y - 40
        return max(0, left), top, min(_W, left + 40), top + 40

    def _backdrop(self, shot: int) -> Backdrop:
        if shot not in self._backdrops:
            kept = {key: one for key, one in self._backdrops.items() if key == shot - 1}
            self._backdrops = kept | {shot: draw_backdrop(self.clip.shots[shot])}
        return self._backdrops[shot]

    def _shot_frame(self, index: int, number: int) -> Pixels:
        """Return a frame of a shot without its frame code."""
        shot, backdrop = self.clip.shots[index], self._backdrop(index)
        picture = backdrop.picture.copy()
        x = self.clip.target_x(shot, number)
        if x is not None:
            sprite, (dx, dy) = _target_sprite(self.clip.target, self.clip.target_text)
            paste(picture, sprite, round(x * _W) - dx, round(TARGET_Y[self.clip.target] * _H) - dy)
            paste(picture, backdrop.tray, *_tray_corner(backdrop.places))
        for event in self.clip.events:
            if event.shot == index and event.first <= number < event.end:
                self._draw_event(picture, event, number, backdrop.places)
        return picture

    def _draw_event(self, picture: Pixels, event: Event, number: int, places: Places) -> None:
        if event.kind == "light":
            paste(picture, _glow(), places.lamp[0] - 110, places.lamp[1] - 90)
        elif event.kind == "number":
            left, top, right, bottom = places.board
            sprite = _digits(event.value, right - left, bottom - top)
            paste(picture, sprite, left, top)
        elif event.kind == "placed":
            left, top, right, _ = places.tray
            paste(picture, _part(event.value), (left + right) // 2 - 22, top - 21)
        else:
            left = self._ball_left(event, number)
            paste(picture, _ball(event.value), left, places.floor_y - 40)

    def _ball_left(self, event: Event, number: int) -> int:
        """Return the left edge of a ball: it enters at the left and leaves at the right edge of the picture."""
        share = (number - event.first + 1) / (event.end - event.first + 1)
        return round(-22 + share * (_W + 4))


def target_box(kind: TargetKind, x: float) -> PixelBox | None:
    """Return the visible box of a face or plate with its centre at `x`, fraction of the width."""
    width, height = (round(v * side) for v, side in zip(TARGET_SIZE[kind], SIZE, strict=True))
    left, top = round(x * _W) - width // 2, round(TARGET_Y[kind] * _H) - height // 2
    right = min(_W, left + width)
    return (max(0, left), top, right, top + height) if right > max(0, left) else None


# --- backdrops ---


def draw_backdrop(shot: Shot) -> Backdrop:
    """Return the backdrop of a shot with lamp, board and tray, and their positions."""
    rng = random.Random(f"backdrop {shot.variant}")
    horizon = rng.randint(228, 246)
    mirrored = rng.random() < 0.5
    lamp = (_mirrored(rng.randint(92, 140), mirrored), rng.randint(60, 74))
    middle = _mirrored(rng.randint(470, 520), mirrored)
    board = (middle - 56, 28, middle + 56, 98)
    tray_x, tray_y = _mirrored(rng.randint(110, 180), mirrored), horizon + rng.randint(34, 48)
    tray = (tray_x - 62, tray_y, tray_x + 62, tray_y + 14)
    canvas = Image.new("RGB", (_W * _SCALE, _H * _SCALE))
    pen = _Pen(canvas)
    _ROOMS[shot.backdrop](pen, rng, horizon)
    _draw_lamp(pen, lamp)
    pen.box((board[0] - 6, board[1] - 6, board[2] + 6, board[3] + 6), (52, 56, 62), 6)
    pen.box(board, (22, 26, 30), 2)
    places = Places(lamp, board, tray, 338)
    small = np.asarray(canvas.resize(SIZE, Image.Resampling.BOX)).copy()
    paste(small, _tray(), *_tray_corner(places))
    return Backdrop(small, _tray(), places)


def _mirrored(x: int, is_mirrored: bool) -> int:
    return _W - x if is_mirrored else x


def _tray_corner(places: Places) -> tuple[int, int]:
    return places.tray[0], places.tray[1]


@lru_cache(maxsize=1)
def _tray() -> Sprite:
    canvas, pen = _canvas(124, 40)
    pen.box((4, 12, 120, 40), (92, 98, 106, 255), 3)
    pen.box((0, 0, 124, 14), (168, 174, 182, 255), 5)
    pen.box((6, 3, 118, 9), (128, 134, 142, 255), 3)
    return _sprite(canvas)


class _Pen:
    """Pen whose coordinates are pixels of the frame."""

    def __init__(self, canvas: Image.Image) -> None:
        self.canvas, self.pen = canvas, ImageDraw.Draw(canvas)

    def box(self, box: PixelBox, color: tuple[int, ...], radius: int = 0) -> None:
        edges = [value * _SCALE for value in box]
        self.pen.rounded_rectangle(edges, radius * _SCALE, fill=color)

    def oval(self, box: PixelBox, color: tuple[int, ...]) -> None:
        self.pen.ellipse([value * _SCALE for value in box], fill=color)

    def shape(self, points: list[tuple[int, int]], color: tuple[int, ...]) -> None:
        self.pen.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=color)

    def fade(self, box: PixelBox, top: tuple[int, int, int], bottom: tuple[int, int, int]) -> None:
        """Fill a box with a vertical gradient."""
        left, up, right, down = box
        strip = np.linspace(top, bottom, (down - up) * _SCALE)[:, None].astype(np.uint8)
        picture = Image.fromarray(np.repeat(strip, 1, axis=1))
        self.canvas.paste(
            picture.resize(((right - left) * _SCALE, (down - up) * _SCALE)),
            (left * _SCALE, up * _SCALE),
        )


def _bench(pen: _Pen, rng: random.Random, horizon: int) -> None:
    pen.fade((0, 0, _W, horizon), (196, 204, 212), (222, 226, 228))
    pen.fade((0, horizon, _W, _H), (176, 136, 96), (128, 94, 62))
    pen.box((0, horizon, _W, horizon + 5), (206, 166, 122))
    for level in (150, 200):
        pen.box((210, level, 400, level + 5), (140, 112, 84))
        at = 216
        while at < 380:
            width = rng.randint(14, 34)
            height, shade = rng.randint(18, 36), rng.randint(90, 170)
            color = rng.choice(((shade, 96, 70), (70, shade, 150), (shade, shade, 96)))
            pen.box((at, level - height, min(396, at + width), level), color, 2)
            at += width + rng.randint(3, 12)


def _hall(pen: _Pen, rng: random.Random, horizon: int) -> None:
    pen.fade((0, 0, _W, horizon), (88, 98, 110), (130, 140, 148))
    pen.fade((0, horizon, _W, _H), (116, 118, 120), (84, 86, 90))
    for column in range(rng.randint(30, 70), _W, 150):
        pen.box((column, 0, column + 16, horizon), (74, 84, 96))
    for beam in (24, 40):
        pen.box((0, beam, _W, beam + 4), (66, 76, 88))
    pen.box((0, horizon - 34, _W, horizon - 14), (60, 64, 70))
    for roller in range(6, _W, 26):
        pen.oval((roller, horizon - 33, roller + 18, horizon - 15), (150, 156, 162))
    for stripe in range(-20, _W, 64):
        pen.shape(
            [(stripe, 326), (stripe + 32, 326), (stripe + 20, 340), (stripe - 12, 340)],
            (222, 184, 40),
        )


def _office(pen: _Pen, rng: random.Random, horizon: int) -> None:
    pen.fade((0, 0, _W, horizon), (226, 220, 208), (236, 232, 224))
    pen.fade((0, horizon, _W, _H), (120, 96, 80), (92, 72, 60))
    left = rng.randint(230, 270)
    pen.box((left, 40, left + 130, 170), (250, 250, 250), 3)
    pen.fade((left + 6, 46, left + 124, 164), (134, 184, 226), (206, 228, 240))
    for block in range(4):
        top = rng.randint(100, 140)
        pen.box((left + 8 + 29 * block, top, left + 34 + 29 * block, 164), (120, 140, 160))
    pen.box((left + 62, 46, left + 68, 164), (250, 250, 250))
    pen.box((0, horizon - 6, _W, horizon + 2), (210, 204, 192))
    pot = left - 60
    pen.shape(
        [(pot, horizon - 40), (pot + 34, horizon - 40), (pot + 28, horizon), (pot + 6, horizon)],
        (184, 104, 72),
    )
    for leaf in range(7):
        dx = (leaf - 3) * 9
        pen.oval(
            (pot + 10 + dx, horizon - 92 + abs(dx), pot + 24 + dx, horizon - 36), (62, 128, 72)
        )


def _gate(pen: _Pen, rng: random.Random, horizon: int) -> None:
    pen.fade((0, 0, _W, 150), (150, 196, 232), (214, 232, 242))
    at = -20
    while at < _W:
        width, top = rng.randint(60, 120), rng.randint(50, 110)
        shade = rng.randint(150, 190)
        pen.box((at, top, at + width, horizon), (shade, shade - 8, shade - 16))
        for row in range(top + 10, horizon - 26, 24):
            for column in range(at + 10, at + width - 12, 22):
                pen.box((column, row, column + 11, row + 13), (112, 138, 158), 1)
        at += width + 2
    pen.fade((0, horizon, _W, _H), (126, 130, 134), (92, 95, 100))
    pen.box((0, horizon, _W, horizon + 8), (176, 178, 178))
    for dash in range(rng.randint(0, 60), _W, 110):
        pen.box((dash, 318, dash + 56, 324), (224, 224, 214), 2)


_ROOMS = {"bench": _bench, "hall": _hall, "office": _office, "gate": _gate}


def _draw_lamp(pen: _Pen, lamp: tuple[int, int]) -> None:
    x, y = lamp
    pen.box((x - 2, 0, x + 2, y - 14), (48, 50, 54))
    pen.shape([(x - 8, y - 16), (x + 8, y - 16), (x + 20, y + 4), (x - 20, y + 4)], (62, 66, 72))
    pen.oval((x - 12, y - 4, x + 12, y + 14), (150, 150, 142))


# --- sprites ---


def _canvas(width: int, height: int) -> tuple[Image.Image, _Pen]:
    canvas = Image.new("RGBA", (width * _SCALE, height * _SCALE))
    return canvas, _Pen(canvas)


def _sprite(canvas: Image.Image) -> Sprite:
    size = (canvas.width // _SCALE, canvas.height // _SCALE)
    return Sprite.of(canvas.resize(size, Image.Resampling.BOX))


@lru_cache(maxsize=8)
def _ball(color: str) -> Sprite:
    canvas, pen = _canvas(40, 40)
    red, green, blue = COLORS[color]
    pen.oval((0, 0, 40, 40), (red * 3 // 4, green * 3 // 4, blue * 3 // 4, 255))
    pen.oval((1, 0, 37, 36), (red, green, blue, 255))
    pen.oval((8, 6, 20, 15), (*(min(255, v + 80) for v in (red, green, blue)), 255))
    return _sprite(canvas)


@lru_cache(maxsize=8)
def _part(color: str) -> Sprite:
    canvas, pen = _canvas(44, 24)
    red, green, blue = COLORS[color]
    pen.box((0, 2, 44, 24), (red * 3 // 4, green * 3 // 4, blue * 3 // 4, 255), 4)
    pen.box((0, 0, 44, 19), (red, green, blue, 255), 4)
    for hole in (6, 30):
        pen.oval((hole, 5, hole + 9, 14), (40, 42, 46, 255))
    return _sprite(canvas)


@lru_cache(maxsize=1)
def _glow() -> Sprite:
    halo = Image.new("L", (220, 180))
    ImageDraw.Draw(halo).ellipse((50, 35, 170, 155), fill=150)
    canvas = Image.new("RGBA", halo.size, (255, 238, 160, 255))
    canvas.putalpha(halo.filter(ImageFilter.GaussianBlur(18)))
    canvas = canvas.resize((220 * _SCALE, 180 * _SCALE), Image.Resampling.BICUBIC)
    _Pen(canvas).oval((97, 84, 123, 106), (255, 252, 224, 255))
    return _sprite(canvas)


@lru_cache(maxsize=32)
def _digits(text: str, width: int, height: int) -> Sprite:
    canvas, pen = _canvas(width, height)
    pen.box((0, 0, width, height), (16, 44, 40, 255), 2)
    font = scaled_font(height * 0.6 * _SCALE, _FONT)
    middle = (width * _SCALE / 2, height * _SCALE / 2)
    pen.pen.text(middle, text, font=font, fill=(126, 255, 196, 255), anchor="mm")
    return _sprite(canvas)


@lru_cache(maxsize=4)
def _target_sprite(kind: TargetKind, text: str) -> tuple[Sprite, tuple[int, int]]:
    """Return a person or a van, and where the centre of the face or plate is in it."""
    return _person(text) if kind == "face" else _van(text)


def _person(name: str) -> tuple[Sprite, tuple[int, int]]:
    rng = random.Random(f"person {name}")
    canvas, pen = _canvas(120, 230)
    skin = rng.choice(((236, 194, 160), (200, 148, 110), (140, 96, 68)))
    coat = rng.choice(((44, 84, 132), (88, 62, 110), (52, 104, 84)))
    dark = tuple(value * 3 // 4 for value in coat)
    pen.box((34, 150, 58, 230), (52, 54, 62, 255), 6)
    pen.box((62, 150, 86, 230), (44, 46, 54, 255), 6)
    pen.box((12, 62, 34, 140), (*dark, 255), 11)
    pen.box((86, 62, 108, 140), (*dark, 255), 11)
    pen.box((26, 54, 94, 164), (*coat, 255), 18)
    pen.box((52, 44, 68, 62), (*(value * 9 // 10 for value in skin), 255), 4)
    pen.oval((41, 1, 79, 40), (62, 44, 32, 255))
    pen.oval((42, 4, 78, 56), (*skin, 255))
    pen.oval((41, 0, 79, 20), (62, 44, 32, 255))
    for eye in (52, 64):
        pen.oval((eye, 25, eye + 5, 30), (34, 30, 30, 255))
    pen.box((58, 31, 61, 38), (*(value * 8 // 10 for value in skin), 255), 1)
    pen.box((53, 43, 67, 46), (166, 84, 76, 255), 2)
    pen.box((30, 84, 90, 102), (246, 246, 242, 255), 2)
    font = scaled_font(7 * _SCALE, _FONT)
    pen.pen.text((60 * _SCALE, 93 * _SCALE), name, font=font, fill=(30, 30, 34, 255), anchor="mm")
    return _sprite(canvas), (60, 28)


def _van(plate: str) -> tuple[Sprite, tuple[int, int]]:
    canvas, pen = _canvas(230, 170)
    pen.box((6, 4, 224, 144), (232, 234, 236, 255), 18)
    pen.box((6, 84, 224, 144), (214, 217, 220, 255), 10)
    for left in (22, 120):
        pen.box((left, 18, left + 88, 70), (66, 84, 100, 255), 8)
    pen.box((112, 6, 118, 140), (188, 191, 195, 255))
    for left in (12, 196):
        pen.box((left, 86, left + 22, 112), (196, 52, 44, 255), 5)
    pen.box((18, 128, 212, 144), (70, 73, 78, 255), 5)
    for left in (26, 164):
        pen.box((left, 140, left + 40, 168), (34, 35, 38, 255), 8)
    pen.box((79, 101, 151, 123), (250, 250, 246, 255), 3)
    font = scaled_font(10 * _SCALE, _FONT)
    pen.pen.text(
        (115 * _SCALE, 112 * _SCALE), plate, font=font, fill=(24, 24, 30, 255), anchor="mm"
    )
    return _sprite(canvas), (115, 112)
