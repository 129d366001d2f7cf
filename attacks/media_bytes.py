"""Hostile picture files, written byte by byte. Each function returns the content of one file; `large` files decode to 200 million pixels."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from random import Random

LARGE = (14_142, 14_142)
"""just below the limit of pixels"""


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


@cache
def zeros(count: int) -> bytes:
    """Return deflated zeros without holding all of them in memory."""
    packer, block = zlib.compressobj(1), bytes(2**20)
    parts = [packer.compress(block) for _ in range(count // 2**20)]
    return b"".join([*parts, packer.compress(bytes(count % 2**20)), packer.flush()])


def png(  # noqa: PLR0913  the format has as many fields
    size, depth=8, color=2, interlace=0, before=b"", pixels=None, after=b""
) -> bytes:
    """Return a PNG of zeros. `before` and `after` are chunks around the pixels."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = 1 + (size[0] * depth * channels + 7) // 8
    if pixels is None:
        pixels = zeros(row * size[1] + (8 * size[1] if interlace else 0))
    head = struct.pack(">IIBBBBB", *size, depth, color, 0, 0, interlace)
    palette = chunk(b"PLTE", bytes(768)) if color == 3 else b""
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), palette, before]
    return b"".join([*parts, chunk(b"IDAT", pixels), after, chunk(b"IEND", b"")])


def png_large(rng: Random) -> bytes:
    depth, color = rng.choice([(8, 2), (8, 6), (8, 0), (8, 3), (16, 0), (8, 4), (16, 2), (16, 6)])
    before = chunk(b"tRNS", bytes(6 if color == 2 else 1)) if color in (2, 3) else b""
    return png(LARGE, depth, color, before=before if rng.random() < 0.5 else b"")


def png_large_turned(rng: Random) -> bytes:
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return png(LARGE, 8, rng.choice([2, 6]), before=chunk(b"eXIf", exif))


def png_interlaced_large(rng: Random) -> bytes:
    return png(LARGE, 8, rng.choice([0, 2]), interlace=1)


def png_huge_header(rng: Random) -> bytes:
    return png((rng.randrange(20_000, 2**31), rng.randrange(20_000, 2**31)), pixels=b"x")


def png_packed_profile(rng: Random) -> bytes:
    return png((8, 8), before=chunk(b"iCCP", b"p\0\0" + zeros(rng.choice([10**7, 10**9]))))


def png_packed_text(rng: Random) -> bytes:
    kind, head = rng.choice([(b"zTXt", b"Comment\0\0"), (b"iTXt", b"Comment\0\x01\0\0\0")])
    place = rng.choice(["before", "after"])
    return png((8, 8), **{place: chunk(kind, head + zeros(10**9))})


def png_many_texts(rng: Random) -> bytes:
    text = chunk(b"zTXt", b"C\0\0" + zeros(rng.choice([10, 10**6])))
    return png((8, 8), before=text * rng.choice([1000, 100_000]))


def png_many_empty_chunks(rng: Random) -> bytes:
    return png((8, 8), before=chunk(rng.choice([b"IDAT", b"prIv", b"tEXt"]), b"") * 200_000)


def png_many_frames(rng: Random) -> bytes:
    number = rng.choice([2, 50_000, 2**31 - 1])
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 10, 0, 0))
    return png((8, 8), before=chunk(b"acTL", struct.pack(">II", number, 0)) + frame)


def png_no_pixels(rng: Random) -> bytes:
    return png(rng.choice([(0, 0), (0, 5), (2**31, 1)]), pixels=b"")


def jpeg(size, scans=(), app=b"", components=1, sof=0xC2) -> bytes:
    """Return a JPEG with these bytes as scans."""
    quant = b"\xff\xdb\0\x43\0" + bytes([1] * 64)
    parts = b"".join(bytes([i + 1, 0x11, 0]) for i in range(components))
    frame = struct.pack(">BHHB", 8, size[1], size[0], components) + parts
    frame = b"\xff" + bytes([sof]) + struct.pack(">H", len(frame) + 2) + frame
    counts = bytes([0, 1] + [0] * 14)
    tables = b"".join(
        b"\xff\xc4" + struct.pack(">H", 20) + bytes([kind]) + counts + bytes([symbol])
        for kind, symbol in ((0x00, 0), (0x10, 0xE0))
    )
    return b"".join([b"\xff\xd8", app, quant, frame, tables, *scans, b"\xff\xd9"])


def jpeg_many_scans(rng: Random) -> bytes:
    """Write scans of about ten bytes that visit every block of the picture."""
    count = rng.choice([101, 2000, 20_000])
    first = b"\xff\xda\0\x08\x01\x01\0\0\0\x10" + bytes(64)
    more = b"\xff\xda\0\x08\x01\x01\x10\x01\x3f\x01" + bytes(8)
    return jpeg(rng.choice([(8000, 8000), LARGE]), [first, *[more] * count])


def jpeg_large(rng: Random) -> bytes:
    components, sof = rng.choice([1, 3, 4]), rng.choice([0xC0, 0xC2])
    pairs = b"".join(bytes([i + 1, 0]) for i in range(components))
    spectrum = b"\0\x3f\0" if sof == 0xC0 else b"\0\0\0"
    head = struct.pack(">HB", 6 + 2 * components, components)
    return jpeg(LARGE, [b"\xff\xda" + head + pairs + spectrum + bytes(2**20)], b"", components, sof)


def jpeg_many_segments(rng: Random) -> bytes:
    segment = b"\xff" + bytes([rng.randrange(0xE0, 0xF0)]) + b"\xff\xff" + bytes(0xFFFD)
    return jpeg((8, 8), app=segment * rng.choice([10, 500]))


def jpeg_exif_loop(rng: Random) -> bytes:
    entry = struct.pack(">HHII", rng.choice([0x8769, 0x0112, 0x8825]), 4, 1, 8)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 200) + entry * 200 + b"\0\0\0\x08"
    return jpeg((8, 8), app=b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)


GIF_HEAD = b"GIF89a"


def gif(size, frames: bytes, end=b";") -> bytes:
    return GIF_HEAD + struct.pack("<HHBBB", *size, 0x80, 0, 0) + bytes(6) + frames + end


def gif_frame(size=(1, 1), delay=1) -> bytes:
    control = b"!\xf9\x04\0" + struct.pack("<H", delay) + b"\0\0"
    return control + b"," + struct.pack("<HHHHB", 0, 0, *size, 0) + b"\x02\x02\x44\x01\0"


def gif_many_frames(rng: Random) -> bytes:
    return gif(rng.choice([(1, 1), (640, 480), (4000, 4000)]), gif_frame() * 100_000)


def gif_few_large_frames(rng: Random) -> bytes:
    size = rng.choice([LARGE, (65_535, 3_000), (65_535, 65_535), (8000, 4000)])
    return gif(size, gif_frame() * rng.choice([1, 4, 40]))


def gif_comment(rng: Random) -> bytes:
    comment = b"!\xfe" + (b"\xff" + b"a" * 255) * rng.choice([100, 40_000]) + b"\0"
    return gif((8, 8), comment + gif_frame())


def gif_bad_codes(rng: Random) -> bytes:
    blocks = b"".join(b"\xff" + rng.randbytes(255) for _ in range(20))
    return gif((640, 480), b"," + struct.pack("<HHHHB", 0, 0, 640, 480, 0) + b"\x08" + blocks)


def gif_odd_delays(rng: Random) -> bytes:
    return gif((8, 8), b"".join(gif_frame(delay=rng.choice([0, 1, 65_535])) for _ in range(40)))


def webp(body: bytes, size=None) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 4 if size is None else size) + b"WEBP" + body


def webp_header_alone(rng: Random) -> bytes:
    width, height = rng.choice([(16_383, 12_000), (16_383, 16_383), (9_000, 9_000)])
    bits = struct.pack("<I", (width - 1) | (height - 1) << 14)
    body = b"VP8L" + struct.pack("<I", 13) + b"\x2f" + bits + bytes(9)
    return webp(body)[: rng.choice([34, 200])]


def webp_many_frames(rng: Random) -> bytes:
    size = rng.choice([16_382, 63])
    extended = struct.pack("<II", 10, 2) + struct.pack("<I", size)[:3] * 2
    pixels = b"VP8L" + struct.pack("<I", 8) + b"\x2f" + bytes(7)
    frame = b"ANMF" + struct.pack("<I", 16 + len(pixels)) + bytes(16) + pixels
    return webp(b"VP8X" + extended + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + frame * 10_000)


def webp_wrong_size(rng: Random) -> bytes:
    return webp(b"VP8 " + rng.randbytes(100), rng.choice([0, 1, 2**32 - 2]))


def bmp(size, bits=24, compression=0, pixels=b"") -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, compression, 0, 0, 0, 0, 0)
    palette = bytes(1024) if bits <= 8 else b""
    offset = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, offset) + info + palette + pixels


def bmp_header(rng: Random) -> bytes:
    side = rng.choice([2**31 - 1, -(2**31), 0, 14_000])
    return bmp((side, rng.choice([side, 1])), rng.choice([1, 8, 16, 24, 32, 77]))


def bmp_runs(rng: Random) -> bytes:
    codes = rng.choice([b"\xff\x01", b"\0\x02\xff\xff", b"\0\0", b"\x01\x02"])
    return bmp(LARGE, 8, 1, codes * 200_000 + b"\0\x01")


def tiff(entries, next_page=0, tail=b"") -> bytes:
    """Return a TIFF of one page. Entries are (tag, type, count, value)."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    return head + packed + struct.pack("<I", next_page) + tail


def tiff_tags(size=(8, 8), compression=1, bits=8, strip=(0, 64)) -> list[tuple[int, ...]]:
    return [
        *[(256, 4, 1, size[0]), (257, 4, 1, size[1]), (258, 3, 1, bits), (259, 3, 1, compression)],
        *[(262, 3, 1, 1), (273, 4, 1, strip[0]), (277, 3, 1, 1), (278, 4, 1, size[1])],
        (279, 4, 1, strip[1]),
    ]


def tiff_large_tag(rng: Random) -> bytes:
    tag = (rng.choice([700, 34_675, 37_724, 270]), rng.choice([1, 2, 7, 12]), 2**32 - 1, 8)
    return tiff([*tiff_tags(), tag])


def tiff_same_bytes_in_many_tags(rng: Random) -> bytes:
    return tiff([*tiff_tags(), *[(40_000 + i, 7, 10**7, 0) for i in range(5_000)]], 0, bytes(10**7))


def tiff_page_loop(rng: Random) -> bytes:
    return tiff(tiff_tags(), rng.choice([8, 9, 2**32 - 1]), bytes(100))


def tiff_many_pages(rng: Random) -> bytes:
    count = rng.choice([20, 30_000])
    tags, parts = tiff_tags(), [b"II*\0\x08\0\0\0"]
    length = 2 + 12 * len(tags) + 4
    for number in range(count):
        page = tiff(tags, 0 if number == count - 1 else 8 + length * (number + 1))[8:]
        parts.append(page)
    return b"".join(parts)


def tiff_many_strips(rng: Random) -> bytes:
    count = rng.choice([10**5, 10**7])
    tags = [one for one in tiff_tags((1, 10**6)) if one[0] not in (273, 279)]
    return tiff([*tags, (273, 4, count, 150), (279, 4, count, 150)], 0, bytes(4 * count))


def tiff_packed_large(rng: Random) -> bytes:
    pixels = zeros(LARGE[0] * LARGE[1])
    return tiff(tiff_tags(LARGE, 8, strip=(122, len(pixels))), 0, pixels)


def tiff_odd_types(rng: Random) -> bytes:
    entries = [
        (tag, rng.randrange(20), rng.randrange(5), rng.randrange(200)) for tag in range(254, 300)
    ]
    return tiff(entries, 0, rng.randbytes(300))


def ico_header(rng: Random) -> bytes:
    return b"\0\0\x01\0" + struct.pack("<H", 65_535) + rng.randbytes(1000)


def tga_header(rng: Random) -> bytes:
    return b"\0\0\x0a" + bytes(9) + struct.pack("<HHBB", 65_535, 65_535, 32, 0) + b"\xff" * 100


def psd_header(rng: Random) -> bytes:
    return b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 4, 300_000, 300_000, 8, 3) + bytes(100)


def postscript(rng: Random) -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99999 99999\n{} loop\n"


def noise_with_magic(rng: Random) -> bytes:
    magic = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", GIF_HEAD, b"RIFF\xff\0\0\0WEBPVP8X", b"BM"]
    magic += [b"II*\0", b"MM\0*", b"\0\0\0\x18ftypmp42", b"\x1aE\xdf\xa3", b"RIFF\xff\0\0\0AVI "]
    return rng.choice(magic) + rng.randbytes(rng.choice([0, 10, 10_000]))


FILES = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__annotations__", {}).get("rng") == "Random"
}
"""kind -> content of one file"""
SLOW = {
    *("png_large", "png_large_turned", "png_interlaced_large", "png_packed_profile"),
    *(
        "png_packed_text",
        "png_many_texts",
        "png_many_empty_chunks",
        "jpeg_many_scans",
        "jpeg_large",
    ),
    *("gif_many_frames", "gif_few_large_frames", "gif_comment", "bmp_runs", "tiff_packed_large"),
    *("tiff_many_strips", "tiff_many_pages", "tiff_same_bytes_in_many_tags", "webp_header_alone"),
    *("jpeg_many_segments", "webp_many_frames"),
}
"""kinds that take over 0.1 s"""
