"""Documents with a known text, for the benchmark and the tests of questions about text: PDF files without a library, and scans of them.

python benchmarks/text_documents.py FOLDER [COUNT] [SEED]

Each document is one of: a letter with labels and values, a price list, an article in two columns, a report of several pages.
Some pages are rotated or cropped. Fonts are the standard ones of PDF, so that a file embeds none.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

FONTS = ("Helvetica", "Times-Roman", "Courier", "Helvetica-Bold", "Times-Bold")
A4 = (595, 842)
WORDS: list[str] = """
    account address agreement amount annual answer april archive article august balance bank basic bridge budget building
    cabinet calendar capital carbon catalogue central change chapter charge circle city claim clear client climate coast colour
    column common company concert contract copper corner cotton council country credit crystal culture current custom danger
    deadline december delivery deposit design detail district document dollar double drawing eastern editor electric engine
    estate evening example expert express factory family fashion february field figure final finger forest formal forward
    freight friday future garden general glass golden ground growth guide hammer harbour heating height history holiday house
    import income index industry insurance interest invoice island january journal journey kitchen label ladder language
    leather lesson letter level library licence limit linen liquid local machine manager margin marine market master material
    meadow measure member memory mercury message metal method middle mineral mirror model modern moment monday motor mountain
    museum music native natural network northern notice november number object october office olive orange order origin
    outdoor oxygen packet page paint palace paper parcel partner payment pencil people period permit person picture pillar
    planet plastic platform pocket policy portrait postal powder premium press price private profit program project protein
    public purple quality quarter railway random reader receipt record region report request reserve result return river
    rubber safety salary sample saturday schedule school science season second section security select september series
    service shadow signal silver simple single social solar source southern spare spring square standard station steel
    storage store stream street summer sunday supply surface system table target tariff tenant terrace theatre thermal
    thursday ticket timber total tower traffic training transfer travel treaty tuesday tunnel upper valley value vessel
    village vintage visitor volume wagon water wednesday weekly western window winter wooden yellow
""".split()  # noqa: SIM905 - a list would fill three screens


@dataclass
class Page:
    """Page of a document: text at places, in points from the upper left corner of the page as it is shown."""

    size: tuple[int, int] = A4
    """(width, height) as it is shown, without a crop"""
    rotate: int = 0
    """degrees; the text is drawn so that it is upright on the rotated page"""
    crop: tuple[int, int, int, int] | None = None
    """left, bottom, right, top, in points of the file"""
    drawing: list[str] = field(default_factory=list)

    @property
    def media_size(self) -> tuple[int, int]:
        """Return the (width, height) in the file."""
        return (self.size[1], self.size[0]) if self.rotate % 180 else self.size

    @property
    def matrix(self) -> str:
        """Return the operator that converts points of the shown page to points of the file."""
        width, height = self.size
        return {
            0: "1 0 0 1 0 0 cm",
            90: f"0 1 -1 0 {height} 0 cm",
            180: f"-1 0 0 -1 {width} {height} cm",
            270: f"0 -1 1 0 0 {width} cm",
        }[self.rotate]

    def write(self, x: float, y: float, text: str, size: float = 11, font: int = 0) -> None:
        """Write a line of text whose baseline is `y` below the upper edge."""
        encoded = text.encode("cp1252", "replace").decode("latin-1")
        escaped = encoded.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        at = f"{x:.2f} {self.size[1] - y:.2f}"
        self.drawing.append(f"BT /F{font} {size:.2f} Tf {at} Td ({escaped}) Tj ET")

    def cover(self, x: float, y: float, width: float, height: float, grey: float = 0) -> None:
        """Draw a bar whose upper left corner is (x, y)."""
        bottom = self.size[1] - y - height
        self.drawing.append(f"{grey} g {x} {bottom} {width} {height} re f 0 g")


def write_pdf(path: Path, pages: Sequence[Page]) -> Path:
    """Write a PDF."""
    first_page = 3 + len(FONTS)
    objects = ["<</Type/Catalog/Pages 2 0 R>>"]
    kids = " ".join(f"{first_page + 2 * number} 0 R" for number in range(len(pages)))
    objects.append(f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>")
    objects += [
        f"<</Type/Font/Subtype/Type1/BaseFont/{name}/Encoding/WinAnsiEncoding>>" for name in FONTS
    ]
    fonts = " ".join(f"/F{number} {3 + number} 0 R" for number in range(len(FONTS)))
    for number, page in enumerate(pages):
        crop = f"/CropBox[{' '.join(map(str, page.crop))}]" if page.crop else ""
        objects.append(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {page.media_size[0]} {page.media_size[1]}]{crop}/Rotate {page.rotate}"
            f"/Resources<</Font<<{fonts}>>>>/Contents {first_page + 2 * number + 1} 0 R>>"
        )
        stream = "\n".join((page.matrix, *page.drawing))
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    return write_objects(path, objects)


def write_objects(path: Path, objects: Sequence[str]) -> Path:
    """Write a PDF of numbered objects, of which the first is the catalogue."""
    parts, offsets, at = ["%PDF-1.4\n"], [], 9
    for number, one in enumerate(objects, start=1):
        offsets.append(at)
        parts.append(f"{number} 0 obj {one} endobj\n")
        at += len(parts[-1])
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    parts.append(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}")
    parts.append(f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{at}\n%%EOF\n")
    path.write_text("".join(parts), encoding="latin-1")
    return path


# --- kinds of documents ---


def sentence(rng: random.Random, num_words: int) -> str:
    """Return words, some of them numbers, as a sentence."""
    words = [rng.choice(WORDS) for _ in range(num_words)]
    if num_words > 6 and rng.random() < 0.4:
        words[rng.randrange(3, num_words - 2)] = str(rng.randint(2, 9999))
    return " ".join(words).capitalize() + "."


def wrapped(text: str, chars: int) -> list[str]:
    """Return the lines of a text."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + len(word) < chars:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def letter(rng: random.Random) -> list[Page]:
    """Return a letter: a heading, labels with values, a paragraph."""
    page, font = Page(), rng.randrange(3)
    page.write(60, 80, sentence(rng, 2).rstrip("."), 22, font)
    for number, label in enumerate(rng.sample(WORDS, 8)):
        value = rng.choice(
            (str(rng.randint(10, 99999)), f"{rng.choice(WORDS)} {rng.choice(WORDS)}")
        )
        y = 130 + 22 * number
        page.write(60, y, f"{label.capitalize()}:", 12, font)
        page.write(180, y, value, 12, font)
    for number, line in enumerate(wrapped(" ".join(sentence(rng, 12) for _ in range(9)), 70)):
        page.write(60, 340 + 17 * number, line, 11, font)
    return [page]


def price_list(rng: random.Random) -> list[Page]:
    """Return a table of articles."""
    page, font = Page(), rng.randrange(3)
    page.write(60, 80, f"{rng.choice(WORDS)} list".capitalize(), 20, font)
    columns = (60, 230, 330, 430)
    for x, heading in zip(columns, ("Article", "Price", "Stock", "Code"), strict=True):
        page.write(x, 120, heading, 12, font + 3 if font < 2 else font)
    for number, name in enumerate(rng.sample(WORDS, 18)):
        y = 145 + 20 * number
        cells = (
            name.capitalize(),
            f"{rng.randint(1, 900)}.{rng.randint(10, 99)}",
            str(rng.randint(1, 500)),
            rng.choice(WORDS)[:3].upper(),
        )
        for x, cell in zip(columns, cells, strict=True):
            page.write(x, y, cell, 11, font)
    return [page]


def article(rng: random.Random) -> list[Page]:
    """Return an article in two columns."""
    page, font = Page(), rng.randrange(2)
    page.write(60, 80, sentence(rng, 3).rstrip("."), 24, font)
    for x in (60, 315):
        for number, line in enumerate(wrapped(" ".join(sentence(rng, 11) for _ in range(14)), 40)):
            page.write(x, 120 + 15 * number + (0 if x == 60 else 4), line, 10, font)
    return [page]


def report(rng: random.Random) -> list[Page]:
    """Return a report of several pages, some of them rotated or cropped."""
    pages = []
    for number in range(rng.randint(2, 5)):
        rotate = rng.choice((0, 0, 90, 180, 270))
        crop = (30, 20, 820, 570) if rotate % 180 else (20, 30, 570, 820)
        page = Page(rotate=rotate, crop=rng.choice((None, crop)))
        page.write(60, 80, f"{number + 1}. {sentence(rng, 2)}".rstrip("."), 18, 3)
        for at, line in enumerate(wrapped(" ".join(sentence(rng, 10) for _ in range(16)), 75)):
            page.write(60, 115 + 18 * at, line, 11, 1)
        pages.append(page)
    return pages


KINDS = (letter, price_list, article, report)


def write_documents(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write documents of all kinds in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        pages = kind(random.Random(f"documents/{seed}/{number}"))
        paths.append(write_pdf(folder / f"{kind.__name__}-{seed}-{number:05}.pdf", pages))
    return paths


def write_scans(folder: Path, count: int, seed: int = 0, dpi: int = 130) -> list[Path]:
    """Write pictures of the upper part of letters and lists, with noise, as JPEG."""
    import numpy as np
    import pypdfium2
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        rng = random.Random(f"scans/{seed}/{number}")
        pdf = write_pdf(folder / "page.pdf", KINDS[number % 2](rng))
        document = pypdfium2.PdfDocument(pdf)
        image = document[0].render(scale=dpi / 72, crop=(0, 300, 0, 0)).to_pil().convert("RGB")
        document.close()
        noise = np.random.default_rng(number).normal(0, 6, np.asarray(image).shape)
        pixels = np.clip(np.asarray(image) - 8 + noise, 0, 255).astype(np.uint8)
        paths.append(folder / f"scan-{seed}-{number:04}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=85)
        pdf.unlink()
    return paths


if __name__ == "__main__":
    count, seed = (int(one) for one in (*sys.argv[2:], 40, 0)[:2])
    print(f"{len(write_documents(Path(sys.argv[1]), count, seed))} documents")
