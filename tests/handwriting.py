"""Pictures of digits drawn by code: in several hands and fonts, on several papers.

As a program it writes PICTURES of them to FOLDER, named DIGIT-HAND-PAPER-NUMBER.png or .jpg.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"

Points = list[tuple[float, float]]


def _arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> Points:
    """Points of an ellipse's arc; degrees, clockwise from the right (y points down)."""
    angles = np.radians(np.linspace(start, end, 24))
    return [(float(x + rx * np.cos(a)), float(y + ry * np.sin(a))) for a in angles]


# The strokes of each digit in a box of 1 x 1, y downwards, as schools teach them.
STROKES: dict[int, list[Points]] = {
    0: [_arc(0.5, 0.5, 0.32, 0.48, -90, 270)],
    1: [[(0.32, 0.2), (0.52, 0.02), (0.52, 0.98)]],
    2: [[*_arc(0.5, 0.28, 0.3, 0.26, -170, 40), (0.2, 0.97), (0.84, 0.97)]],
    3: [[*_arc(0.47, 0.26, 0.28, 0.24, -150, 90), *_arc(0.47, 0.74, 0.32, 0.24, -90, 150)]],
    4: [[(0.62, 0.02), (0.18, 0.66), (0.86, 0.66)], [(0.66, 0.36), (0.66, 0.98)]],
    5: [[(0.76, 0.03), (0.32, 0.03), (0.27, 0.44), *_arc(0.48, 0.68, 0.3, 0.29, -130, 140)]],
    6: [[(0.66, 0.03), (0.4, 0.3), *_arc(0.5, 0.7, 0.27, 0.27, -180, 180)]],
    7: [[(0.18, 0.04), (0.82, 0.04), (0.42, 0.98)]],
    8: [[*_arc(0.5, 0.26, 0.24, 0.24, 90, 450), *_arc(0.5, 0.74, 0.29, 0.24, -90, 270)]],
    9: [[*_arc(0.48, 0.3, 0.27, 0.27, 0, 360), (0.75, 0.3), (0.7, 0.62), (0.58, 0.98)]],
}

# How a hand writes: width of its pen as a part of the digit's height, slant, width of the digit as
# a part of its usual one, and how far its points are from where they should be.
HANDS = {
    "fineliner": (0.03, 0.05, 0.8, 0.01),
    "ballpoint": (0.06, 0.25, 0.75, 0.02),
    "pen": (0.1, 0.15, 0.8, 0.015),
    "marker": (0.17, 0.0, 0.85, 0.01),
    "child": (0.11, -0.1, 0.95, 0.035),
}


def written(digit: int, hand: str, height: int, rng: np.random.Generator) -> Image.Image:
    """The digit in that hand, white on black, on a sheet around it, mode L."""
    pen, slant, narrow, wobble = HANDS[hand]
    # Small ones are drawn larger, for smooth edges.
    side, fine = height * 2, max(1, min(4, 400 // height))
    sheet = Image.new("L", (fine * side, fine * side))
    draw = ImageDraw.Draw(sheet)
    width = max(fine, round(fine * pen * height))
    swing = rng.normal(0, wobble, (4, 2))  # slow waves, as a hand makes them
    for stroke in STROKES[digit]:
        line = []
        for x, y in stroke:
            away = sum(swing[k] * np.sin((k + 1) * np.pi * np.array([y, x]) + k) for k in range(4))
            x, y = x + away[0], y + away[1]
            x = 0.5 + narrow * (x - 0.5) + slant * (0.5 - y)
            line.append((fine * height * (x + 0.5), fine * height * (y + 0.5)))
        draw.line(line, fill=255, width=width, joint="curve")
        for x, y in line:
            draw.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=255)
    return sheet.resize((side, side), Image.Resampling.LANCZOS)


def printed(digit: int, font: str, height: int) -> Image.Image:
    """The digit in a font, white on black, on a sheet around it, mode L."""
    sheet = Image.new("L", (2 * height, 2 * height))
    face = ImageFont.truetype(FONTS / f"{font}.ttf", round(1.35 * height))
    ImageDraw.Draw(sheet).text((height, height), str(digit), fill=255, font=face, anchor="mm")
    return sheet


Paper = Callable[[Image.Image, np.random.Generator], Image.Image]


def _mixed(mask: Image.Image, paper: NDArray[np.float64], pen: object) -> NDArray[np.float64]:
    share = np.asarray(mask, dtype=np.float64)[..., None] / 255
    return paper * (1 - share) + np.asarray(pen, dtype=np.float64) * share


def _picture(levels: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))


def _plain(paper: object, pen: object) -> Paper:
    return lambda mask, _: _picture(
        _mixed(mask, np.ones((*mask.size[::-1], 3)) * np.asarray(paper), pen)
    )


def _lit(mask: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lit from one side, and noisy as a photograph."""
    height, width = mask.size[::-1]
    fall = np.linspace(rng.uniform(90, 130), rng.uniform(190, 235), width)[None, :, None]
    levels = _mixed(mask, np.ones((height, width, 3)) * fall, (35, 40, 70))
    return _picture(levels + rng.normal(0, 5, levels.shape))


def _transparent(mask: Image.Image, _: np.random.Generator) -> Image.Image:
    picture = Image.new("RGBA", mask.size, (20, 20, 20, 0))
    picture.putalpha(mask)
    return picture


PAPERS: dict[str, Paper] = {
    "white": _plain((255, 255, 255), (0, 0, 0)),
    "black": _plain((0, 0, 0), (255, 255, 255)),
    "blue": _plain((30, 60, 140), (235, 235, 200)),
    "pencil": _plain((244, 240, 226), (150, 148, 145)),
    "photo": _lit,
    "transparent": _transparent,
}


def off_centre(mask: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The same on an oblong sheet, somewhere."""
    extra = [int(n) for n in rng.integers(0, max(2, mask.width // 2), 2)]
    sheet = Image.new("L", (mask.width + extra[0], mask.height + extra[1]))
    sheet.paste(mask, tuple(int(rng.integers(0, n + 1)) for n in extra))
    return sheet


def main(folder: Path, pictures: int) -> None:
    """Write that many pictures: all digits, hands and fonts, papers and heights in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    papers, heights = list(PAPERS), (20, 40, 90, 200, 500)
    for number in range(pictures):
        digit, turn = number % 10, number // 10
        hand = [*HANDS, "DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr10"][turn % 9]
        height = heights[(turn + number) % len(heights)]
        mask = written(digit, hand, height, rng) if hand in HANDS else printed(digit, hand, height)
        paper = papers[(turn + digit) % len(papers)]
        picture = PAPERS[paper](off_centre(mask, rng), rng)
        ending = "jpg" if paper == "photo" else "png"
        picture.save(folder / f"{digit}-{hand}-{paper}-{number}.{ending}", quality=85)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
