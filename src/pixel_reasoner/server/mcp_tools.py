"""Tools of the MCP server as plain functions: each returns texts and encoded pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mcp.server.mcpserver.exceptions import ToolError
from PIL import Image

from pixel_reasoner.media.context import MediaContext
from pixel_reasoner.media.pixels import SourceKey
from pixel_reasoner.operations.frames import select_frames
from pixel_reasoner.operations.registry import OperationSet
from pixel_reasoner.operations.zoom import zoom_in
from pixel_reasoner.schema.geometry import Size
from pixel_reasoner.schema.trace import Picture, ToolCall
from pixel_reasoner.server.mcp_media import MediaLibrary, OpenOptions, View
from pixel_reasoner.server.mcp_pictures import (
    ENLARGED_SIDE_PX,
    JPEG_QUALITY,
    MAX_SIDE_PX,
    EncodedPicture,
    contact_sheet,
    encode_pictures,
    render_region,
)

Content = str | EncodedPicture
_OPERATIONS = OperationSet((zoom_in, select_frames))
_ARGUMENT_NAMES = {"bbox_2d": "box", "target_image": "frame", "target_frames": "frames"}
"""argument of an operation -> argument of the tool"""


class ShowOptions(NamedTuple):
    """How pictures are returned."""

    return_image: bool = True
    max_side: int = MAX_SIDE_PX


class PictureTools:
    """Tools that return pictures. All methods are thread-safe and block while media are decoded.

    Every method raises `ToolError` with a sentence for the calling model.

    Args:
        library: media by handle.
        owner: client whose handles are known.
    """

    def __init__(self, library: MediaLibrary, owner: str = "") -> None:
        self.library, self.owner = library, owner

    def open_media(
        self, reference: str, options: OpenOptions | None, show: ShowOptions
    ) -> list[Content]:
        """Open a file, and return its handle, its size and an overview."""
        with self.library.lease(self.owner) as lease:
            view = self.library.open(reference, options, lease)
            context = self.library.context(view.media)
            if view.frame is not None or not context.num_frames:
                return self._overview(view, context, show)
            return self._contact_sheet(view, context, show)

    def zoom_in(
        self, reference: str, box: Sequence[float], frame: int | None, show: ShowOptions
    ) -> list[Content]:
        """Return a region at the full resolution of its source."""
        with self.library.lease(self.owner) as lease:
            view = self.library.open(reference, lease=lease)
            context = self.library.context(view.media)
            number = self._target(view, context, frame)
            arguments = {"bbox_2d": list(box), "target_image": number}
            (picture,) = self._execute(ToolCall(name="zoom_in", arguments=arguments), context)
            region = View(view.media, picture.frame, picture.box)
            handle = self.library.add_region(region)
            what = f"{handle}: region {_box(region)} of {view.media.name}{_frame(picture)}"
            return self._show(what, [picture], region, show)

    def select_frames(
        self, reference: str, frames: Sequence[int], show: ShowOptions
    ) -> list[Content]:
        """Return frames of a clip, each at full size."""
        with self.library.lease(self.owner) as lease:
            view = self.library.open(reference, lease=lease)
            if not view.is_whole:
                raise ToolError(
                    f"{reference} is one picture; give the handle of the video, or use zoom_in"
                )
            context = self.library.context(view.media)
            call = ToolCall(name="select_frames", arguments={"target_frames": list(frames)})
            pictures = self._execute(call, context)
            count = "1 frame" if len(pictures) == 1 else f"{len(pictures)} frames"
            what = f"{view.media.handle}: {count} of {view.media.name}"
            return self._show(what, pictures, view, show, has_labels=True)

    def picture(self, handle: str) -> bytes:
        """Return what a handle points to as JPEG, for the resource `picture://{id}`."""
        with self.library.lease(self.owner) as lease:
            view = self.library.open(handle, lease=lease)
            context = self.library.context(view.media)
            if view.is_whole and context.num_frames:
                image = self._sheet(view, context, MAX_SIDE_PX)
            else:
                image = self._render(view, ShowOptions())
        return encode_pictures([image], formats=("jpeg",))[0].content

    # --- parts of results ---

    def _overview(self, view: View, context: MediaContext, show: ShowOptions) -> list[Content]:
        number = self._target(view, context, None)
        picture = context.picture(number)
        region = View(view.media, picture.frame, picture.box)
        handle = self.library.add_region(view)
        what = f"{handle}: {view.media.name}, picture"
        if handle != view.media.handle:
            what = f"{handle}: region {_box(region)} of {view.media.name}{_frame(picture)}"
        notes = "".join(f" Note: {note}." for note in context.notes)
        return self._show(what, [picture], region, show, notes=notes)

    def _contact_sheet(self, view: View, context: MediaContext, show: ShowOptions) -> list[Content]:
        pictures = [context.picture(number) for number in context.frames.values()]
        kind = "video" if view.media.item.kind == "video" else "folder of frames"
        sampled = "1 frame" if len(pictures) == 1 else f"{len(pictures)} frames"
        times = ", ".join(f"{one.frame}{_time(one)}" for one in pictures)
        text = (
            f"{view.media.handle}: {view.media.name}, {kind}, {sampled} sampled, "
            f"{_px(pictures[0].source_px)} each: {times}."
        )
        if not show.return_image:
            return [f"{text} {_next_step(is_clip=True)}"]
        (encoded,) = encode_pictures([self._sheet(view, context, show.max_side)])
        return [
            f"{text} The overview is {_px(encoded.size)}. {_next_step(is_clip=True)}",
            encoded,
        ]

    def _show(
        self,
        what: str,
        pictures: Sequence[Picture],
        view: View,
        show: ShowOptions,
        *,
        notes: str = "",
        has_labels: bool = False,
    ) -> list[Content]:
        """Return one line, then the pictures; with labels, a line before each of several pictures."""
        views = [View(view.media, one.frame, one.box) for one in pictures]
        handles = [self.library.add_region(one) for one in views]
        names = [
            f"frame {one.frame}{_time(one)} = {handle}"
            for one, handle in zip(pictures, handles, strict=True)
        ]
        listed = f" ({', '.join(names)})" if has_labels else ""
        size = _px(pictures[0].source_px)
        if not show.return_image:
            return [f"{what}{listed}, {size} in the source, not shown.{notes}"]
        encoded = encode_pictures([self._render(one, show) for one in views])
        sizes = " and ".join(dict.fromkeys(_px(one.size) for one in encoded))
        text = f"{what}{listed}, {size} in the source, shown at {sizes}{_quality(encoded)}.{notes}"
        if len(encoded) == 1:
            return [f"{text} {_next_step()}", encoded[0]]
        labelled = zip(names, encoded, strict=True)
        return [f"{text} {_next_step()}", *(part for pair in labelled for part in pair)]

    def _target(self, view: View, context: MediaContext, frame: int | None) -> int:
        """Return the number of the picture that a view shows; a region is added to the context."""
        if frame is not None and view.frame is not None and frame != view.frame:
            raise ToolError(f"this is a region of frame {view.frame}; leave out frame")
        frame = view.frame if frame is None else frame
        if not context.num_frames:
            if frame is not None:
                raise ToolError(
                    f"{view.media.name} is a picture and has no frames; leave out frame"
                )
            number = 1
        elif frame is None:
            raise ToolError(f"frame is missing; give a number from 1 to {context.num_frames}")
        elif frame not in context.frames:
            raise ToolError(
                f"there is no frame {frame}; give a number from 1 to {context.num_frames}"
            )
        else:
            number = context.frames[frame]
        if view.box == context.picture(number).box:
            return number
        return context.add_region(number, view.box).number

    def _execute(self, call: ToolCall, context: MediaContext) -> Sequence[Picture]:
        """Execute an operation.

        Raises:
            ToolError: it rejects the call.
        """
        observation = _OPERATIONS.run(call, context)
        if observation.error is not None:
            text = observation.text
            for inner, outer in _ARGUMENT_NAMES.items():
                text = text.replace(inner, outer)
            raise ToolError(text)
        return observation.pictures

    def _render(self, view: View, show: ShowOptions) -> Image.Image:
        source = self._source(view)
        enlarge_to = 0 if view.is_whole else ENLARGED_SIDE_PX
        return render_region(source, view.box, show.max_side, enlarge_to)

    def _source(self, view: View) -> Image.Image:
        with self.library.errors(view.media):
            context = self.library.context(view.media)
            return context.media.image(SourceKey(0, view.frame))

    def _sheet(self, view: View, context: MediaContext, max_side: int) -> Image.Image:
        pictures = [context.picture(number) for number in context.frames.values()]
        images = [self._source(View(view.media, one.frame)) for one in pictures]
        labels = [f"{one.frame}{_time(one)}" for one in pictures]
        return contact_sheet(images, labels, max_side)


def _px(size: Size) -> str:
    return f"{size[0]} x {size[1]} px"


def _box(view: View) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in view.box)}]"


def _frame(picture: Picture) -> str:
    return "" if picture.frame is None else f", frame {picture.frame}{_time(picture)}"


def _time(picture: Picture) -> str:
    return "" if picture.time_s is None else f" at {picture.time_s:.2f} s"


def _quality(encoded: Sequence[EncodedPicture]) -> str:
    lowest = min((one.quality or JPEG_QUALITY) for one in encoded)
    return "" if lowest == JPEG_QUALITY else f", JPEG quality {lowest} to keep the result small"


def _next_step(*, is_clip: bool = False) -> str:
    if is_clip:
        return "Look closer with select_frames, or with zoom_in and a frame number."
    return "Look closer with zoom_in and this handle."
