"""MCP server: handles, pixels, sizes of results, files that are not read, questions, every revision of the protocol."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

pytest.importorskip("mcp")

from mcp import Client, MCPError
from mcp.server.mcpserver.exceptions import ToolError

from cli_fixture import assert_refused
from conftest import NUM_CLIP_FRAMES, draw_clip, draw_photo
from mcp_servers import (
    ERAS,
    call,
    handle,
    http_server,
    parameters,
    pictures,
    quick_model,
    services,
    slow_model,
    text,
    with_client,
)
from pixel_reasoner.media.decoder import IN_PROCESS
from pixel_reasoner.model import Model
from pixel_reasoner.models.scripted import ScriptedModel
from pixel_reasoner.schema.geometry import WHOLE
from pixel_reasoner.schema.settings import MediaLimits
from pixel_reasoner.schema.trace import Trace
from pixel_reasoner.server import mcp_media
from pixel_reasoner.server.mcp_files import MediaFolders
from pixel_reasoner.server.mcp_media import MediaLibrary, OpenOptions
from pixel_reasoner.server.mcp_pictures import (
    MAX_RESULT_CHARS,
    MAX_SIDE_PX,
    contact_sheet,
    encode_pictures,
    render_region,
)
from pixel_reasoner.server.mcp_server import McpServices, build_mcp_server

TOOLS = ["open_media", "zoom_in", "select_frames", "ask"]
SCENE_PX = (4000, 3000)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with a scene of 16 colours, a photo, a clip, a folder of frames and a TIFF with two pages."""
    folder = tmp_path_factory.mktemp("media") / "shown"
    folder.mkdir()
    draw_scene().save(folder / "scene.png")
    draw_photo(folder / "photo.png")
    draw_clip(folder / "clip.mp4")
    (folder / "frames").mkdir()
    for number in range(1, 13):
        shade = (20 * number, 0, 0)
        Image.new("RGB", (64, 48), shade).save(folder / "frames" / f"frame{number}.png")
    pages = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    pages[0].save(folder / "pages.tiff", save_all=True, append_images=pages[1:])
    (folder.parent / "secret.png").write_bytes((folder / "photo.png").read_bytes())
    return folder


def draw_scene() -> Image.Image:
    """Blocks of 25 pixels in 16 colours: PNG is smaller than JPEG, and every region is different."""
    blocks = np.random.default_rng(3).integers(0, 16, (SCENE_PX[1] // 25, SCENE_PX[0] // 25))
    palette = np.random.default_rng(4).integers(0, 256, (16, 3), np.uint8)
    return Image.fromarray(np.kron(palette[blocks], np.ones((25, 25, 1), np.uint8)))


@pytest.fixture
def server(root):
    found = services(root, quick_model())
    yield build_mcp_server(found)
    found.library.close()


def same(first: Image.Image, second: Image.Image) -> bool:
    return np.array_equal(np.asarray(first.convert("RGB")), np.asarray(second.convert("RGB")))


# --- tools ---


@pytest.mark.parametrize("mode", ERAS)
def test_every_revision_lists_the_same_read_only_tools_in_one_order(server, mode):
    tools = with_client(server, lambda client: client.list_tools(), mode).tools
    assert [tool.name for tool in tools] == TOOLS
    assert all(tool.annotations.read_only_hint for tool in tools)
    assert not any(tool.annotations.open_world_hint for tool in tools)
    assert [tool.output_schema is not None for tool in tools] == [False, False, False, True]
    assert all(tool.description and tool.input_schema["properties"] for tool in tools)


@pytest.mark.parametrize("mode", ERAS)
def test_a_zoom_returns_the_pixels_of_the_region_in_full_resolution(server, mode):
    opened = call(server, "open_media", mode, media="scene.png")
    assert pictures(opened)[0].size == (1568, 1176)
    assert "4000 x 3000 px in the source, shown at 1568 x 1176 px" in text(opened)
    zoomed = call(server, "zoom_in", mode, media=handle(opened), box=[0.25, 0.5, 0.5, 0.75])
    assert "1000 x 750 px in the source, shown at 1000 x 750 px" in text(zoomed)
    assert same(pictures(zoomed)[0], draw_scene().crop((1000, 1500, 2000, 2250)))
    again = call(server, "zoom_in", mode, media=handle(zoomed), box=[0, 0, 0.8, 0.8])
    assert "[0.25, 0.5, 0.45, 0.7]" in text(again)
    assert same(pictures(again)[0], draw_scene().crop((1000, 1500, 1800, 2100)))


def test_a_small_region_is_enlarged_and_both_sizes_are_stated(server):
    zoomed = call(server, "zoom_in", media="scene.png", box=[0, 0, 0.025, 0.025])
    assert "100 x 75 px in the source, shown at 768 x 576 px" in text(zoomed)
    crop = draw_scene().resize((768, 576), Image.Resampling.LANCZOS, (0, 0, 100, 75), 3.0)
    assert same(pictures(zoomed)[0], crop)


def test_max_side_and_return_image_apply_to_every_picture(server):
    for name, more in [
        ("open_media", {"media": "scene.png"}),
        ("open_media", {"media": "clip.mp4"}),
        ("zoom_in", {"media": "scene.png", "box": [0, 0, 0.5, 0.5]}),
        ("select_frames", {"media": "clip.mp4", "frames": [1, 2]}),
    ]:
        small = call(server, name, max_side=100, **more)
        assert all(max(one.size) <= 100 for one in pictures(small))
        without = call(server, name, return_image=False, **more)
        assert [one.type for one in without.content] == ["text"]
        assert " px" in text(without)


def test_frames_are_numbered_and_have_their_times(server):
    opened = call(server, "open_media", media="clip.mp4")
    assert f"video, {NUM_CLIP_FRAMES} frames sampled, 96 x 64 px each: 1 at 0.00 s" in text(opened)
    chosen = call(server, "select_frames", media=handle(opened), frames=[2, 9])
    shades = [np.asarray(one.convert("L")).mean() for one in pictures(chosen)]
    assert np.allclose(shades, [30, 170], atol=4)
    assert "frame 9 at 1.00 s" in text(chosen)
    region = call(server, "zoom_in", media=handle(opened), box=[0, 0, 0.5, 0.5], frame=9)
    assert abs(np.asarray(pictures(region)[0].convert("L")).mean() - 170) < 4
    assert "frame 9 at 1.00 s, 48 x 32 px" in text(region)


def test_a_part_of_a_video_is_sampled_by_its_handle(server):
    opened = handle(call(server, "open_media", media="clip.mp4"))
    part = call(server, "open_media", media=opened, start_s=1.0, end_s=1.2, num_frames=2)
    assert handle(part) != opened
    assert "2 frames sampled" in text(part)
    assert "1 at 1.00 s, 2 at 1.12 s" in text(part)


def test_a_folder_of_frames_is_in_natural_order(server):
    opened = call(server, "open_media", media="frames", num_frames=12)
    assert "folder of frames, 12 frames" in text(opened)
    chosen = call(server, "select_frames", media=handle(opened), frames=[2, 12])
    assert [one.convert("RGB").getpixel((5, 5))[0] for one in pictures(chosen)] == [40, 240]


def test_a_page_of_a_tiff_is_opened(server):
    second = call(server, "open_media", media="pages.tiff", page=2)
    assert same(pictures(second)[0], Image.new("RGB", (40, 30), "blue"))
    missing = call(server, "open_media", media="pages.tiff", page=3)
    assert missing.is_error
    assert "pages.tiff" in text(missing)


def data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def test_a_data_url_is_opened(server):
    opened = call(server, "open_media", media=data_url(Image.new("RGB", (30, 20), "green")))
    assert "30 x 20 px" in text(opened)
    assert same(pictures(opened)[0], Image.new("RGB", (30, 20), "green"))


def test_a_name_with_a_colon_is_a_file(tmp_path):
    draw_photo(tmp_path / "IMG 10:30.png")
    assert not call(
        build_mcp_server(services(tmp_path)), "open_media", media="IMG 10:30.png"
    ).is_error


def test_lists_in_strings_are_understood(server):
    zoomed = call(server, "zoom_in", media="scene.png", box="[0, 0, 0.5, 0.5]")
    assert not zoomed.is_error


# --- sizes of results ---


@settings(max_examples=25)
@given(
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    count=st.integers(1, 8),
    is_noise=st.booleans(),
    max_side=st.integers(64, MAX_SIDE_PX),
)
def test_every_result_is_below_700_kb_and_1568_px(width, height, count, is_noise, max_side):
    image = Image.new("RGB", (width, height), (90, 30, 200))
    if is_noise:
        tile = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
        image = Image.fromarray(
            np.tile(tile, (height // 256 + 1, width // 256 + 1, 1))[:height, :width]
        )
    shown = [render_region(image, WHOLE, max_side, enlarge_to=768)] * count
    encoded = encode_pictures(shown)
    lengths = [len(base64.b64encode(one.content)) for one in encoded]
    assert lengths == [one.num_chars for one in encoded]
    assert sum(lengths) < MAX_RESULT_CHARS == 700_000
    for one in encoded:
        decoded = Image.open(io.BytesIO(one.content))
        assert decoded.size == one.size
        assert max(decoded.size) <= max_side <= 1568
    assert max(contact_sheet(shown, ["1 at 0.00 s"] * count, max_side).size) <= max_side


def test_noise_is_sent_with_less_quality_and_the_text_states_it(root, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    found = services(tmp_path)
    opened = call(build_mcp_server(found), "open_media", media="noise.png")
    assert len(opened.content[1].data) < 700_000
    assert "JPEG quality" in text(opened)
    found.library.close()


def test_the_smaller_one_of_png_and_jpeg_is_sent(server):
    assert call(server, "open_media", media="photo.png").content[1].mime_type == "image/jpeg"
    assert call(server, "open_media", media="clip.mp4").content[1].mime_type == "image/png"


# --- files that are not read ---

OUTSIDE = "is outside of the folders that this server reads; give a file in shown"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../secret.png", OUTSIDE),
        ("../missing.png", OUTSIDE),
        ("{parent}/secret.png", OUTSIDE),
        ("frames/../../secret.png", OUTSIDE),
        ("/etc/passwd", OUTSIDE),
        ("~/.ssh/id_rsa", OUTSIDE),
        ("..", OUTSIDE),
        ("file:///etc/passwd", "file: URLs are not read"),
        ("FILE:scene.png", "file: URLs are not read"),
        ("http://127.0.0.1/a.png", "addresses are not loaded"),
        ("s3://a/b.png", "addresses are not loaded"),
        ("scene.png\0.jpg", "is not a name of a file"),
        ("", "is not a name of a file"),
        ("a" * 5000, "is not a name of a file"),
        ("a" * 300, "cannot be read"),
        ("\ud800.png", "cannot be read|is not a name|outside"),
        ("missing.png", "'missing.png' cannot be read: no such file"),
        ("scene.png/x", "cannot be read"),
        ("m-0000000000000000", "another server opened it, or it was closed since"),
        ("p-0000000000000000", "open the file again with open_media"),
        ("data:text/html,<b>", "only data: URLs of pictures"),
        ("data:image/png;base64,????", "not valid base64"),
        ("data:image/png;base64,AAAA", "not a picture"),
    ],
)
def test_other_files_are_refused_with_a_sentence(root, name, words):
    found = services(root)
    name = name.format(parent=root.parent)
    with pytest.raises(ToolError, match=words.replace("(", r"\(")) as refused:
        found.library.open(name)
    message = str(refused.value).replace(name[:100], "")
    assert str(root.parent) not in message
    assert "/" not in message.replace("image/", "").replace("data:image/png", "")
    assert len(message) < 400
    found.library.close()


SECRET_PX = (321, 123)


@pytest.fixture
def folders(tmp_path):
    """An allowed folder with links to the outside and to the inside, a pipe, and a secret next to it."""
    inside = tmp_path / "inside"
    inside.mkdir()
    Image.new("RGB", SECRET_PX, "red").save(tmp_path / "secret.png")
    draw_photo(inside / "photo.png")
    (inside / "out.png").symlink_to(tmp_path / "secret.png")
    (inside / "folder").symlink_to(tmp_path)
    (inside / "in.png").symlink_to(inside / "photo.png")
    (inside / "loop.png").symlink_to(inside / "loop.png")
    (inside / "frames").mkdir()
    (inside / "frames" / "1.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(inside / "pipe.png")
    return inside


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("out.png", "outside"),
        ("folder/secret.png", "outside"),
        ("folder", "outside"),
        ("frames", "'frames/1.png' is outside|outside"),
        ("loop.png", "cannot be read"),
        ("pipe.png", "not a regular file"),
    ],
)
def test_links_to_the_outside_are_refused(folders, name, words):
    found = services(folders)
    with pytest.raises(ToolError, match=words):
        found.library.open(name)
    assert found.library.open("in.png").media.handle == found.library.open("photo.png").media.handle
    found.library.close()


PARTS = (
    *("..", ".", "", "~", "inside", "folder", "frames", "out.png", "in.png", "photo.png"),
    *("secret.png", "loop.png", "pipe.png", "1.png", "\0", "%2e%2e", "..\\..", "x" * 300),
    *("etc", "passwd", "proc", "self", "root", "file:", "FILE:", "data:image/png;base64,"),
    *("\u2025", "\uff0e\uff0e", "\ud800"),
)


@settings(
    max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=6),
    start=st.sampled_from(["", "/", "{parent}/"]),
)
def test_no_name_opens_a_file_outside(folders, parts, start):
    library = services(folders).library
    try:
        view = library.open(start.format(parent=folders.parent) + "/".join(parts))
    except ToolError as error:
        refused = str(error).replace(f"{folders.parent}/", "", 1)  # the name that the client gave
    else:
        refused = ""
        for picture in library.context(view.media).pictures:
            assert picture.source_px == (640, 480)
    finally:
        library.close()
    assert str(folders.parent) not in refused


def test_a_file_that_becomes_a_link_after_the_check_is_not_read(folders):
    allowed = MediaFolders([folders])
    for name, swapped in [("photo.png", "photo.png"), ("frames/1.png", "frames")]:
        if name == "frames/1.png":
            (folders / name).unlink()
            draw_photo(folders / name)
        location = allowed.locate(name)
        (folders / swapped).rename(folders / "moved")
        (folders / swapped).symlink_to(folders.parent / "secret.png")
        with (
            pytest.raises(ToolError, match="cannot be read"),
            allowed.open(location),
        ):
            pass
        (folders / "moved").rename(folders / "old")
        shutil.rmtree(folders / "old", ignore_errors=True)
        (folders / "old").unlink(missing_ok=True)


def test_without_a_root_only_pictures_in_requests_are_opened():
    library = MediaLibrary(MediaFolders(), IN_PROCESS)
    with pytest.raises(ToolError, match="--root DIR"):
        library.open("/etc/passwd")
    assert library.open(data_url(Image.new("RGB", (9, 9)))).media.handle.startswith("m-")
    library.close()


# --- handles ---


def test_the_same_content_and_options_have_the_same_handle_in_every_process(root):
    first, second = services(root).library, services(root).library
    handles = {one.open(name).media.handle for one in (first, second) for name in ("scene.png",)}
    assert len(handles) == 1
    with pytest.raises(ToolError, match="another server opened it"):
        services(root).library.open(*handles)
    assert (
        first.open("clip.mp4").media.handle != first.open("clip.mp4", OpenOptions(3)).media.handle
    )


def test_a_replaced_file_does_not_change_what_was_opened(tmp_path):
    Image.new("RGB", (50, 50), "red").save(tmp_path / "a.png")
    server = build_mcp_server(services(tmp_path))
    before = handle(call(server, "open_media", media="a.png"))
    Image.new("RGB", (50, 50), "blue").save(tmp_path / "a.png")
    zoomed = call(server, "zoom_in", media=before, box=[0, 0, 0.5, 0.5])
    assert pictures(zoomed)[0].convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    after = call(server, "open_media", media="a.png")
    assert handle(after) != before
    assert pictures(after)[0].convert("RGB").getpixel((0, 0)) == (0, 0, 255)


def test_the_least_recently_used_media_are_closed_and_their_copies_deleted(root, monkeypatch):
    monkeypatch.setattr(mcp_media, "MAX_OPEN_MEDIA", 2)
    library = services(root).library
    with library.lease() as lease:
        first = library.open("scene.png", lease=lease).media
        for name in ("photo.png", "pages.tiff", "clip.mp4"):
            library.open(name)
        assert library.open(first.handle).media.handle == first.handle
    for name in ("photo.png", "frames"):
        library.open(name)
    assert len(library) == 2
    assert len(list(Path(first.item.path).parent.iterdir())) == 2
    with pytest.raises(ToolError, match="closed since"):
        library.open(first.handle)
    folder = Path(first.item.path).parent
    library.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (MediaLimits(max_picture_bytes=100), "bytes; give at most 100 bytes"),
        (MediaLimits(max_px=1000), "640 x 480 = 307,200 pixels; give at most 1,000 pixels"),
        (MediaLimits(max_header_bytes=8), "photo.png"),
    ],
)
def test_limits_are_sentences_without_paths_of_the_server(root, limits, words):
    library = MediaLibrary(MediaFolders([root]), IN_PROCESS, limits)
    with pytest.raises(ToolError, match=words) as refused:
        library.open("photo.png")
    assert "/" not in str(refused.value)
    assert len(library) == 0
    library.close()


# --- mistakes in arguments ---


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("zoom_in", {"media": "scene.png"}, "box is missing; give a list of numbers"),
        ("zoom_in", {"box": [0, 0, 1, 1]}, "media is missing; give a string"),
        ("zoom_in", {"media": 3, "box": [0, 0, 1, 1]}, "media must be a string"),
        ("zoom_in", {"media": "scene.png", "box": "left"}, "box must be a list of numbers"),
        ("zoom_in", {"media": "scene.png", "box": [0, 0, "x", 1]}, "box must be a list of numbers"),
        ("zoom_in", {"media": "scene.png", "box": [0, 0, 1]}, "box needs 4 numbers"),
        ("zoom_in", {"media": "scene.png", "box": [0, 0, 2, 1]}, "box x2=2 is outside [0, 1]"),
        ("zoom_in", {"media": "scene.png", "box": [0.5, 0, 0.1, 1]}, "box is inverted"),
        (
            "zoom_in",
            {"media": "scene.png", "box": [0, 0, 0.001, 1]},
            "the box covers only 4 x 3000",
        ),
        (
            "zoom_in",
            {"media": "scene.png", "bbox": 1},
            "there is no argument 'bbox'; use media, box",
        ),
        ("zoom_in", {"media": "scene.png", "box": [0, 0, 1, 1], "frame": 1}, "leave out frame"),
        ("zoom_in", {"media": "clip.mp4", "box": [0, 0, 1, 1]}, "frame is missing"),
        ("zoom_in", {"media": "clip.mp4", "box": [0, 0, 1, 1], "frame": 13}, "from 1 to 12"),
        ("select_frames", {"media": "scene.png", "frames": [1]}, "there is no video"),
        ("select_frames", {"media": "clip.mp4", "frames": []}, "no frames were named"),
        ("select_frames", {"media": "clip.mp4", "frames": [1, 1]}, "a frame was named twice"),
        (
            "select_frames",
            {"media": "clip.mp4", "frames": [*range(1, 10)]},
            "9 frames are too many",
        ),
        ("open_media", {"media": "scene.png", "max_side": 9999}, "less than or equal to 1568"),
        ("open_media", {"media": "scene.png", "start_s": 1}, "start_s and end_s are for videos"),
        ("open_media", {"media": "clip.mp4", "page": 1}, "page is for TIFF pictures"),
        ("ask", {"question": " ", "media": "scene.png"}, "question is empty"),
        ("ask", {"question": "What?", "media": []}, "media has 0 items; give 1 to 16"),
        ("ask", {"question": "What?", "media": "x.png"}, "'x.png' cannot be read: no such file"),
        ("ask", {"question": "What?", "media": 3}, "media must be a list of strings or a string"),
        ("ask", {"question": "?", "media": "scene.png", "operations": ["zoom"]}, "zoom_in"),
        ("ask", {"question": "?", "media": "scene.png", "time_limit_s": 1e9}, "600"),
        ("see", {}, "there is no tool 'see'; use open_media, zoom_in, select_frames, ask"),
    ],
)
def test_a_mistake_is_a_sentence_that_names_what_is_allowed(server, name, arguments, sentence):
    result = call(server, name, **arguments)
    assert result.is_error
    assert sentence in text(result)
    assert "\n" not in text(result)
    assert "pydantic" not in text(result)


# --- questions ---


def asked(server, mode="auto", **arguments):
    """Ask, and return the result with all progress notifications."""
    found = []

    async def use(client):
        async def on_progress(progress, total, message):
            found.append((progress, total, message))

        more = {"question": "Which colour?", "media": "photo.png", **arguments}
        return await client.call_tool("ask", more, progress_callback=on_progress)

    return with_client(server, use, mode), found


@pytest.mark.parametrize("mode", ERAS)
def test_an_answer_has_its_steps_as_structured_output_and_as_text(server, mode):
    result, progress = asked(server, mode)
    answer = result.structured_content
    assert json.loads(text(result)) == answer
    assert [one.type for one in result.content] == ["text"]
    assert answer["answer"] == "red"
    assert answer["stop"] == "answered"
    step = next(one for one in answer["steps"] if "operation" in one)
    assert (step["operation"], step["box"]) == ("zoom_in", [0.25, 0.25, 0.5, 0.5])
    assert step["source_size"] == [160, 120]
    numbers = [one[0] for one in progress]
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 5
    assert "zoom in on picture 1, box 0.25 0.25" in " ".join(one[2] for one in progress)


def test_regions_of_an_answer_are_handles_and_its_trace_is_a_resource(server):
    async def use(client):
        result = await client.call_tool("ask", {"question": "Which?", "media": ["scene.png"]})
        step = next(one for one in result.structured_content["steps"] if "picture" in one)
        zoom = {"media": step["picture"], "box": [0, 0, 1, 1]}
        shown = await client.call_tool("zoom_in", zoom)
        picture = await client.read_resource(f"picture://{step['picture']}")
        trace = await client.read_resource(f"trace://{result.structured_content['trace_id']}")
        return shown, picture.contents[0], trace.contents[0]

    shown, picture, trace = with_client(server, use)
    assert same(pictures(shown)[0], draw_scene().crop((1000, 750, 2000, 1500)))
    assert picture.mime_type == "image/jpeg"
    assert Image.open(io.BytesIO(base64.b64decode(picture.blob))).size == (1000, 750)
    record = Trace.from_line(trace.text)
    assert record.answer == "red"
    assert record.question.media[0].path.startswith("m-")
    assert "/" not in record.question.media[0].path


@pytest.mark.parametrize("uri", ["picture://m-0000000000000000", "trace://t-1", "picture://..%2Fa"])
def test_an_unknown_resource_is_an_error(server, uri):
    async def use(client):
        with pytest.raises(MCPError) as error:
            await client.read_resource(uri)
        return str(error.value)

    assert "/" not in with_client(server, use).replace(uri, "")


def test_a_region_and_several_media_can_be_asked_about(root):
    seen = []

    def reply(messages):
        seen.append(
            sum(
                part["type"] == "image"
                for m in messages
                for part in m["content"]
                if isinstance(part, dict)
            )
        )
        return r"\boxed{2}"

    server = build_mcp_server(services(root, Model(ScriptedModel(reply))))
    region = handle(call(server, "zoom_in", media="scene.png", box=[0, 0, 0.1, 0.1]))
    result, _ = asked(server, media=[region, "photo.png"], operations=[])
    assert result.structured_content["answer"] == "2"
    assert seen == [2]


def test_frames_of_an_answer_have_the_numbers_of_their_clip(root):
    call_ = '<tool_call>{"name": "select_frames", "arguments": {"target_frames": [14]}}</tool_call>'
    model = Model(ScriptedModel([call_, r"\boxed{1}"]))
    server = build_mcp_server(services(root, model))
    result, _ = asked(server, media=["frames", "clip.mp4"])
    step = next(one for one in result.structured_content["steps"] if "frame" in one)
    assert step["frame"] == 2
    assert "frame 2 at 0.12 s" in text(
        call(server, "zoom_in", media=step["picture"], box=[0, 0, 1, 1])
    )
    different = handle(call(server, "open_media", media="clip.mp4", num_frames=3))
    mixed, _ = asked(server, media=["frames", different])
    assert "different num_frames" in text(mixed)


def test_an_error_of_the_model_contains_nothing_of_the_machine(root):
    def fail(_):
        raise RuntimeError("/home/me/key.txt at 0x7f")

    server = build_mcp_server(services(root, Model(ScriptedModel(fail))))
    result, _ = asked(server)
    assert result.is_error
    assert "cannot answer (RuntimeError); its log contains the reason" in text(result)
    assert "/home" not in text(result)


def test_a_time_limit_ends_a_question_and_frees_its_place(root):
    model = slow_model(0.05)
    found = services(root, model, max_running=1)
    started = time.monotonic()
    result, progress = asked(build_mcp_server(found), time_limit_s=1.5, max_turns=32)
    assert time.monotonic() - started < 5
    assert result.is_error
    assert "there is no answer within 1.5 s; raise time_limit_s" in text(result)
    assert "trace://t-" in text(result)
    assert len(progress) > 2
    assert_free(found, model)


def test_a_model_that_does_not_return_ends_at_the_hard_limit(root, monkeypatch):
    monkeypatch.setattr("pixel_reasoner.server.mcp_ask._GRACE_S", 0.2)
    result, _ = asked(build_mcp_server(services(root, slow_model(3.0))), time_limit_s=0.1)
    assert "there is no answer within 0.1 s" in text(result)


def assert_free(found: McpServices, model: Model, timeout_s: float = 3.0) -> None:
    """Assert that no question is in progress any more."""
    from pixel_reasoner.rollout.scheduler import get_scheduler

    deadline = time.monotonic() + timeout_s
    scheduler = get_scheduler(model.generation_model)
    while scheduler.num_unfinished or found.asker.num_running:
        assert time.monotonic() < deadline, "a cancelled question is still in progress"
        time.sleep(0.02)


async def ask_and_leave(client: Client) -> None:
    """Cancel a question after its first progress."""
    begun = asyncio.Event()

    async def on_progress(*_):
        begun.set()

    arguments = {"question": "What?", "media": "photo.png", "max_turns": 32}
    task = asyncio.ensure_future(client.call_tool("ask", arguments, progress_callback=on_progress))
    await asyncio.wait_for(begun.wait(), 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("mode", ERAS)
def test_a_cancelled_question_frees_its_place(root, mode):
    model = slow_model(0.05)
    found = services(root, model, max_running=1)
    with_client(build_mcp_server(found), ask_and_leave, mode)
    assert_free(found, model)


def test_too_many_questions_at_once_are_refused(root):
    server = build_mcp_server(services(root, slow_model(0.05), max_running=1))
    arguments = {"question": "What?", "media": "photo.png", "time_limit_s": 0.5, "max_turns": 32}

    async def use(client):
        both = (client.call_tool("ask", arguments) for _ in range(2))
        return await asyncio.gather(*both)

    texts = sorted(text(one) for one in with_client(server, use))
    assert texts[0].startswith("1 questions are in progress; ask again later")


# --- over HTTP ---


@pytest.mark.medium
@pytest.mark.parametrize("mode", ERAS)
def test_http_serves_every_revision_and_cancels_with_the_connection(root, mode):
    model = slow_model(0.05)
    found = services(root, model, max_running=1)

    async def use(client):
        listed = await client.list_tools()
        opened = await client.call_tool("open_media", {"media": "scene.png"})
        more = {"media": handle(opened), "box": [0.25, 0.5, 0.5, 0.75]}
        zoomed = await client.call_tool("zoom_in", more)
        url = data_url(
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8))
        )
        large = await client.call_tool("open_media", {"media": url, "return_image": False})
        await ask_and_leave(client)
        return listed, zoomed, large

    with http_server(found) as url:
        listed, zoomed, large = with_client(url, use, mode)
        assert_free(found, model)
    assert [tool.name for tool in listed.tools] == TOOLS
    assert same(pictures(zoomed)[0], draw_scene().crop((1000, 1500, 2000, 2250)))
    assert "1500 x 1500 px" in text(large)


@pytest.mark.medium
def test_many_clients_at_once_get_no_errors_while_media_are_closed(root, monkeypatch):
    monkeypatch.setattr(mcp_media, "MAX_OPEN_MEDIA", 2)
    found = services(root, quick_model(), max_running=50)
    calls = [
        ("open_media", {"media": "clip.mp4", "num_frames": 3}),
        ("open_media", {"media": "frames", "num_frames": 5}),
        ("zoom_in", {"media": "photo.png", "box": [0, 0, 0.5, 0.5]}),
        ("zoom_in", {"media": "clip.mp4", "box": [0, 0, 0.5, 0.5], "frame": 2}),
        ("select_frames", {"media": "frames", "frames": [1, 2]}),
        ("ask", {"question": "Which?", "media": ["photo.png", "pages.tiff"]}),
    ]

    async def client(url, number):
        async with Client(url, mode=ERAS[number % len(ERAS)]) as one:
            return [await one.call_tool(*calls[(number + step) % len(calls)]) for step in range(12)]

    async def every(url):
        return await asyncio.gather(*(client(url, number) for number in range(12)))

    with http_server(found) as url:
        results = [one for several in asyncio.run(every(url)) for one in several]
    assert [text(one) for one in results if one.is_error] == []
    assert len(results) == 144
    assert len(found.library) <= 3


@pytest.mark.medium
def test_http_refuses_other_hosts_and_origins(root):
    import httpx2

    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"accept": "application/json, text/event-stream"}
    with http_server(services(root)) as url:
        for header, value, code in [
            ("host", "evil.example", 421),
            ("origin", "http://evil.example", 403),
        ]:
            answer = httpx2.post(url, json=request, headers={**accept, header: value})
            assert answer.status_code == code
        body = b"{" + b" " * (25 * 2**20) + b"}"
        large = httpx2.post(
            url, content=body, headers={**accept, "content-type": "application/json"}
        )
        assert large.status_code == 413


# --- over standard input and output ---


def command(*options: object):
    return parameters("-m", "pixel_reasoner.cli", "mcp", *options)


@pytest.mark.medium
@pytest.mark.parametrize("mode", ERAS)
def test_the_command_serves_every_revision(root, mode):
    async def use(client):
        listed = await client.list_tools()
        opened = await client.call_tool("open_media", {"media": "clip.mp4"})
        more = {"media": handle(opened), "frames": [2, 9]}
        frames = await client.call_tool("select_frames", more)
        zoom = {"media": str(root / "scene.png"), "box": [0.25, 0.5, 0.5, 0.75]}
        return listed, frames, await client.call_tool("zoom_in", zoom)

    listed, frames, zoomed = with_client(command("--root", root, "--no-ask"), use, mode)
    assert [tool.name for tool in listed.tools] == TOOLS[:3]
    assert len(pictures(frames)) == 2
    assert same(pictures(zoomed)[0], draw_scene().crop((1000, 1500, 2000, 2250)))


@pytest.mark.medium
@pytest.mark.parametrize("mode", ERAS)
def test_a_cancellation_over_standard_input_frees_the_place(root, mode):
    async def use(client):
        await ask_and_leave(client)
        await asyncio.sleep(0.3)
        more = {"question": "What?", "media": "photo.png", "max_turns": 2}
        return await client.call_tool("ask", more)

    script = Path(__file__).parent / "mcp_servers.py"
    result = with_client(parameters(script, root, 0.05), use, mode)
    assert result.structured_content["stop"] == "max_turns"


@pytest.mark.medium
@pytest.mark.parametrize("end", ["end of input", "SIGTERM"])
def test_the_process_ends_and_deletes_its_copies(root, tmp_path, end):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, "-m", "pixel_reasoner.cli", "mcp", "--root", str(root), "--no-ask"]
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    info = {"protocolVersion": "2025-06-18", "capabilities": {}}
    info["clientInfo"] = {"name": "test", "version": "1"}
    for number, (method, fields) in enumerate(
        [
            ("initialize", info),
            ("tools/call", {"name": "open_media", "arguments": {"media": "scene.png"}}),
        ]
    ):
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": fields}
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == number
    assert list(tmp_path.iterdir())
    if end == "SIGTERM":
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    rest, _ = process.communicate(timeout=60)
    assert rest == b""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.extras
def test_the_bundled_model_answers(tmp_path):
    from pixel_reasoner.api import demo_questions

    question = demo_questions(tmp_path)[0]
    path = Path(question.media[0].path)

    async def use(client):
        more = {"question": question.text, "media": str(path), "max_turns": 6}
        return (await client.call_tool("ask", more)).structured_content

    found = with_client(command("--root", path.parent, "--max-new-tokens", 256), use)
    assert found["answer"] == question.answer[0]
    assert "only supports PixelWorld" in found["note"]
    assert any(step.get("operation") == "zoom_in" for step in found["steps"])


# --- the command ---


def test_a_model_behind_an_endpoint_has_not_the_note_of_the_bundled_one():
    from pixel_reasoner.api import ModelSpec
    from pixel_reasoner.cli.mcp import _loader

    assert _loader(ModelSpec("tiny", endpoints=("http://127.0.0.1:9/v1",)), 8)[1] == ""


@pytest.mark.parametrize(
    ("client", "keys"),
    [
        ("claude", ["mcpServers", "pixel-reasoner"]),
        ("cursor", ["mcpServers", "pixel-reasoner"]),
        ("vscode", ["servers", "pixel-reasoner"]),
    ],
)
def test_print_config_prints_json_with_absolute_paths(run, root, monkeypatch, client, keys):
    monkeypatch.chdir(root.parent)
    options = ["--root", root.name, "--model", "served", "--endpoint", "http://localhost:1/v1"]
    code, out, err = run("mcp", *options, "--print-config", client)
    assert code == 0, err
    found = json.loads(out)
    assert list(found) == keys[:1]
    entry = found[keys[0]][keys[1]]
    assert entry.get("type") == ("stdio" if client == "vscode" else None)
    assert Path(entry["command"]).is_absolute()
    assert entry["args"][:3] == ["-m", "pixel_reasoner.cli", "mcp"]
    options[1] = str(root)
    assert sorted(entry["args"][3:]) == sorted(options)
    assert ".json" in err


@pytest.mark.medium
def test_a_printed_configuration_starts_a_server(run, root):
    _, out, _ = run("mcp", "--root", root, "--no-ask", "--print-config", "claude")
    entry = json.loads(out)["mcpServers"]["pixel-reasoner"]
    started = parameters(*entry["args"])
    assert started.command == entry["command"]
    result = call(started, "open_media", media="photo.png", return_image=False)
    assert "640 x 480 px" in text(result)


def test_errors_of_the_command(run, root, monkeypatch):
    assert_refused(run("mcp", "--root", "gone"), "--root", "gone", "does not exist")
    assert_refused(run("mcp", "--root", root / "photo.png"), "--root", "a file")
    assert_refused(run("mcp", "--print-config", "emacs"), "claude, vscode, cursor")
    assert_refused(run("mcp", "--root", root, "--timeout-s", 5), "without --endpoint")
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert_refused(run("mcp", "--root", root), "mcp", "pip install", "[serve]")


# --- MCP Inspector ---

INSPECTOR = ["npx", "--yes", "-p", "node@24", "-p", "@modelcontextprotocol/inspector@2.12.0"]


@pytest.fixture(scope="module")
def inspector():
    """The Inspector's command line; skipped if npm cannot install it."""
    if shutil.which("npx") is None:
        pytest.skip("npx is not installed")
    command = [*INSPECTOR, "mcp-inspector", "--cli"]
    try:
        subprocess.run([*command, "--help"], check=True, capture_output=True, timeout=300)
    except (subprocess.SubprocessError, OSError):
        pytest.skip("npm cannot install the MCP Inspector")
    return command


@pytest.mark.slow
@pytest.mark.parametrize("era", ["legacy", "auto", "modern"])
def test_the_inspector_lists_and_calls_the_tools(inspector, root, era):
    started = command("--root", root, "--no-ask")

    def inspect(*options: str):
        words = [*inspector, "--protocol-era", era, "--format", "json"]
        for name, value in started.env.items():
            words += ["-e", f"{name}={value}"]
        done = subprocess.run(
            [*words, *options, "--", started.command, *started.args],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)["result"]

    listed = inspect("--method", "tools/list")
    assert [tool["name"] for tool in listed["tools"]] == TOOLS[:3]
    arguments = json.dumps({"media": "scene.png", "box": [0.25, 0.5, 0.5, 0.75]})
    zoomed = inspect(
        "--method", "tools/call", "--tool-name", "zoom_in", "--tool-args-json", arguments
    )
    assert [part["type"] for part in zoomed["content"]] == ["text", "image"]
    assert "1000 x 750 px in the source" in zoomed["content"][0]["text"]
