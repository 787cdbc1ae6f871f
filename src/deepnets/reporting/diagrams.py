"""The networks drawn from lists of their layers; knows neither Keras nor this package.

A layer is what `models.layers` lists: `name`, `kind` (its Keras class), `output_shape` ([height,
width, channels] or [n]), `parameters` and `inputs` (names), in topological order. Stages and
residual blocks are found in the names (block1_conv2, conv2_block1_1_conv) and shapes; none is
counted on to be there. Returns figures that `drawing.save` writes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Rectangle

Layer = Mapping[str, Any]

# Inches, points.
_WIDTH = 6.3
_TEXT = 7

_NAME = re.compile(r"(?P<stage>[a-z]+\d+)(?:_(?P<block>block\d+))?_")

# Layers too small to be drawn on their own where a whole network is.
_MINOR = {"Activation", "BatchNormalization", "ReLU", "ZeroPadding2D"}

_WORDS = {
    "Activation": "acti- vation",
    "Add": "add",
    "BatchNormalization": "batch norm",
    "Conv2D": "conv",
    "Dense": "dense",
    "Dropout": "dropout",
    "GlobalAveragePooling2D": "average pool",
    "MaxPooling2D": "max pool",
    "Rescaling": "scale",
    "Softmax": "softmax",
    "UpSampling2D": "upsample",
    "ZeroPadding2D": "pad",
}

_CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": _TEXT}
_LINE: dict[str, Any] = {"color": "black", "linewidth": 0.8}
_ARROW: dict[str, Any] = {
    "arrowstyle": "-|>,head_width=0.15,head_length=0.25",
    "shrinkA": 0,
    "shrinkB": 0,
    **_LINE,
}

_CONV, _POOL, _BLOCK, _OTHER = "#A6DCCB", "#F7EFA0", "#EBC6DB", "#DDDDDD"


@dataclass(frozen=True)
class Stage:
    """Consecutive layers that belong together, and the residual blocks among them by name."""

    name: str
    layers: list[Layer]
    blocks: dict[str, list[Layer]]

    @property
    def parameters(self) -> int:
        """Of all its layers."""
        return sum(layer["parameters"] for layer in self.layers)

    def count(self, kind: str) -> int:
        """How many of its layers are of `kind`."""
        return sum(layer["kind"] == kind for layer in self.layers)


class _Glyph(NamedTuple):
    """A box of the whole network: `side` of its output, line style of its shortcut if any."""

    text: str
    colour: str
    side: int
    shortcut: str = ""


def stages(layers: Sequence[Layer]) -> list[Stage]:
    """The stages of a network: `input`, what the layers' names say, `top`.

    In a network with residual blocks, whatever comes before them is its `stem`. The top starts
    where height and width end.
    """
    residual = any(_parts(layer)[1] for layer in layers)

    def name(layer: Layer) -> str:
        stage, block = _parts(layer)
        if len(layer["output_shape"]) < 3:
            return "top"
        return ("stem" if residual and not block else stage) if stage else "input"

    all_stages = []
    for stage, group in groupby(layers, name):
        members = list(group)
        blocks: dict[str, list[Layer]] = {}
        for layer in members:
            block = _parts(layer)[1]
            if block:
                blocks.setdefault(f"{stage}_{block}", []).append(layer)
        all_stages.append(Stage(stage, members, blocks))
    return all_stages


def network(layers: Sequence[Layer], title: str) -> Figure:
    """A network from left to right, its stages' sizes below, its residual blocks unfolded.

    The height of a box grows with the logarithm of its output's side.
    """
    all_stages = stages(layers)
    kinds = _block_kinds(all_stages)
    detail = 1.3
    height = (3.35 if kinds else 3.1) + detail * len(kinds)
    figure, axis = _canvas(height)
    parameters = sum(stage.parameters for stage in all_stages)
    axis.text(0.05, height - 0.05, title, va="top", fontsize=9, weight="bold")
    convolutions = sum(stage.count("Conv2D") for stage in all_stages)
    size = f"{len(layers)} layers, {convolutions} convolutions, {parameters:,} parameters"
    axis.text(_WIDTH - 0.05, height - 0.07, size, va="top", ha="right", fontsize=_TEXT)
    note = "Green: convolution, its kernel and channels."
    if kinds:
        note += (
            " Pink: residual block, the channels of its convolutions;\n"
            "arc: its shortcut, solid where there are layers on it, dotted where there are none."
        )
    axis.text(
        0.05, height - (3.04 if kinds else 2.88), note, va="top", fontsize=_TEXT, linespacing=1.3
    )
    _draw_stages(axis, all_stages, layers, height - 1.15)
    for row, (block, alike) in enumerate(kinds.items()):
        own = next(stage.blocks[block] for stage in all_stages if block in stage.blocks)
        others = f" (and {alike - 1} more like it)" if alike > 1 else ""
        bottom = detail * (len(kinds) - 1 - row)
        axis.text(0.05, bottom + 1.12, f"{block}{others}", va="top", fontsize=_TEXT)
        _draw_block(axis, own, layers, bottom + 0.22)
    return figure


def modified_top(layers: Sequence[Layer], title: str) -> Figure:
    """What stands on the backbone, layer by layer, with outputs and parameters."""
    by_name = {stage.name: stage for stage in stages(layers)}
    tail = by_name.pop("top").layers
    by_name.pop("input", None)
    backbone = [layer for stage in by_name.values() for layer in stage.layers]
    size = sum(layer["parameters"] for layer in backbone)
    boxes = [("backbone", f"{len(backbone)} layers", backbone[-1]["output_shape"], size)]
    boxes += [
        (_word(layer), layer["name"], layer["output_shape"], layer["parameters"]) for layer in tail
    ]
    height, margin, middle, gap = 1.55, 0.72, 0.85, 0.18
    figure, axis = _canvas(height)
    axis.text(0.05, height - 0.05, title, va="top", fontsize=9, weight="bold")
    pitch = (_WIDTH - 0.05 + gap - margin) / len(boxes)
    width = pitch - gap
    for row, name in ((0.5, "output"), (0.66, "parameters")):
        axis.text(0.05, middle - row, name, va="center", fontsize=_TEXT)
    for index, (word, name, shape, count) in enumerate(boxes):
        left = margin + index * pitch
        centre = left + width / 2
        _box(axis, left, middle, width, 0.72, _OTHER if index else _BLOCK)
        axis.text(centre, middle + 0.2, word, weight="bold", **_CENTRED)
        axis.text(centre, middle - 0.1, _wrap_name(name, int(width / 0.058)), **_CENTRED)
        axis.text(centre, middle - 0.5, _size(shape), **_CENTRED)
        axis.text(centre, middle - 0.66, f"{count:,}", **_CENTRED)
        if index:
            _arrow(axis, left - gap, left, middle)
    return figure


def _draw_stages(
    axis: Axes, all_stages: Sequence[Stage], layers: Sequence[Layer], middle: float
) -> None:
    margin, gap, least = 0.75, 0.1, 0.58
    glyphs = [_glyphs(stage, layers) for stage in all_stages]

    def widths(unit: float) -> list[float]:
        return [max(least, unit * len(own)) for own in glyphs]

    room = _WIDTH - margin - gap * len(all_stages)
    unit = next((u / 200 for u in range(60, 0, -1) if sum(widths(u / 200)) <= room), 0.005)
    rows = {
        "": [stage.name for stage in all_stages],
        "output": [_size(stage.layers[-1]["output_shape"]) for stage in all_stages],
        "blocks": [str(len(stage.blocks) or "") for stage in all_stages],
        "convolutions": [str(stage.count("Conv2D") or "") for stage in all_stages],
        "layers": [str(len(stage.layers)) for stage in all_stages],
        "parameters": [f"{stage.parameters:,}" for stage in all_stages],
    }
    rows = {name: cells for name, cells in rows.items() if any(cells)}
    left = margin
    end = sum(widths(unit)) + gap * (len(all_stages) - 1) + margin
    axis.plot([margin, end], [middle, middle], color="black", linewidth=0.8, zorder=0)
    for index, (own, width) in enumerate(zip(glyphs, widths(unit), strict=True)):
        start = left + (width - unit * len(own)) / 2
        for position, glyph in enumerate(own):
            x, tall = start + position * unit, 0.85 + 0.13 * math.log2(glyph.side)
            _box(axis, x + 0.015, middle, unit - 0.03, tall, glyph.colour)
            axis.text(x + unit / 2, middle, glyph.text, rotation=90, **_CENTRED)
            if glyph.shortcut:
                peak = x + unit / 2, middle + tall / 2
                arc = Arc(peak, 0.8 * unit, 0.16, theta1=0, theta2=180, linestyle=glyph.shortcut)
                axis.add_patch(arc)
        for row, cells in enumerate(rows.values()):
            axis.text(
                left + width / 2,
                middle - 0.98 - 0.16 * row,
                cells[index],
                weight="normal" if row else "bold",
                **_CENTRED,
            )
        left += width + gap
    for row, name in enumerate(rows):
        axis.text(0.05, middle - 0.98 - 0.16 * row, name, va="center", fontsize=_TEXT)


def _glyphs(stage: Stage, layers: Sequence[Layer]) -> list[_Glyph]:
    """A box for each residual block, and for each layer that is in none and not minor."""
    glyphs: list[_Glyph] = []
    for layer in stage.layers:
        own = stage.blocks.get(f"{stage.name}_{_parts(layer)[1]}")
        shape = layer["output_shape"]
        if own is not None:
            if layer is own[0]:
                path, shortcut = _paths(own)
                widths = [str(x["output_shape"][-1]) for x in path if x["kind"] == "Conv2D"]
                style = "-" if shortcut else ":"
                glyphs.append(_Glyph("-".join(widths), _BLOCK, own[-1]["output_shape"][0], style))
        elif layer["kind"] not in _MINOR:
            colour = {"Conv2D": _CONV, "MaxPooling2D": _POOL}.get(layer["kind"], _OTHER)
            side = shape[0] if len(shape) == 3 else 1
            glyphs.append(_Glyph(_label(layer, layers, ", "), colour, side))
    return glyphs


def _block_kinds(all_stages: Sequence[Stage]) -> dict[str, int]:
    """The first of each kind of residual block, and how many there are of it."""
    first: dict[Any, str] = {}
    counts: dict[str, int] = {}
    for stage in all_stages:
        for name, own in stage.blocks.items():
            kind = tuple((layer["kind"], layer["name"].removeprefix(name)) for layer in own)
            like = first.setdefault(kind, name)
            counts[like] = counts.get(like, 0) + 1
    return counts


def _paths(own: Sequence[Layer]) -> tuple[list[Layer], list[Layer]]:
    """The longest path through a block, and the layers beside it: those of the shortcut."""
    by_name = {layer["name"]: layer for layer in own}
    longest: dict[str, list[Layer]] = {}
    for layer in own:
        before = [longest[name] for name in layer["inputs"] if name in by_name]
        longest[layer["name"]] = [*max(before, key=len, default=[]), layer]
    path = longest[own[-1]["name"]]
    return path, [layer for layer in own if layer not in path]


def _draw_block(axis: Axes, own: Sequence[Layer], layers: Sequence[Layer], middle: float) -> None:
    """The longest path through a block, and its shortcut above."""
    path, shortcut = _paths(own)
    start, above = 0.3, middle + 0.48
    pitch = (_WIDTH - 0.25 - start) / len(path)
    width = pitch - 0.09
    column = {layer["name"]: index for index, layer in enumerate(path)}
    for layer in shortcut:
        column[layer["name"]] = max(column.get(name, -1) for name in layer["inputs"]) + 1
    beside = {layer["name"] for layer in shortcut}
    for layer in own:
        name = layer["name"]
        x, y = start + column[name] * pitch, above if name in beside else middle
        _box(axis, x, y, width, 0.34, _CONV if layer["kind"] == "Conv2D" else _OTHER)
        axis.text(x + width / 2, y, _label(layer, layers, "\n"), linespacing=1.1, **_CENTRED)
        for source in layer["inputs"]:
            end = start + column[source] * pitch + width if source in column else 0.08
            near = column[name] == column.get(source, -1) + 1
            if (source in beside) == (name in beside) and (near or name in beside):
                _arrow(axis, end, x, y)
                continue
            if source not in beside:
                end += 0.045
                axis.plot([end, end], [middle, above], **_LINE)
            if name in beside:
                _arrow(axis, end, x, above)
            else:
                axis.plot([end, x + width / 2], [above, above], **_LINE)
                axis.annotate(
                    "", (x + width / 2, y + 0.17), (x + width / 2, above), arrowprops=_ARROW
                )
    _arrow(axis, _WIDTH - 0.25 - 0.09, _WIDTH - 0.1, middle)


def _parts(layer: Layer) -> tuple[str, str]:
    """Stage and block in a layer's name, empty where there is none."""
    match = _NAME.match(layer["name"])
    return (match["stage"], match["block"] or "") if match else ("", "")


def _label(layer: Layer, layers: Sequence[Layer], separator: str) -> str:
    kind, units = layer["kind"], layer["output_shape"][-1]
    if kind == "Conv2D":
        side = _kernel_side(layer, layers)
        kernel = f"{side}x{side}" if side else "conv"
        return f"conv {kernel}\n{units}" if separator == "\n" and side else f"{kernel}, {units}"
    if kind == "Dense":
        return f"dense{separator}{units}"
    return _word(layer).replace(" ", "\n") if separator == "\n" else _word(layer)


def _word(layer: Layer) -> str:
    if layer["kind"] == "Activation" and layer["name"].endswith("_relu"):
        return "relu"
    return str(_WORDS.get(layer["kind"], layer["kind"]))


def _kernel_side(layer: Layer, layers: Sequence[Layer]) -> int | None:
    """Side of a convolution's square kernel, from the number of its parameters."""
    inputs = [other for other in layers if other["name"] in layer["inputs"]]
    if not inputs:
        return None
    units = layer["output_shape"][-1]
    for biases in (units, 0):
        area, rest = divmod(layer["parameters"] - biases, inputs[0]["output_shape"][-1] * units)
        if not rest and area > 0 and math.isqrt(area) ** 2 == area:
            return math.isqrt(area)
    return None


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _wrap_name(name: str, length: int) -> str:
    """`name` in lines of at most `length` characters, broken after underscores."""
    lines = [""]
    for part in re.findall(r"[^_]*_?", name):
        if len(lines[-1]) + len(part) > length:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _canvas(height: float) -> tuple[Figure, Axes]:
    """A figure whose only axes are measured in inches from its lower left corner."""
    figure = Figure(figsize=(_WIDTH, height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, _WIDTH), ylim=(0, height))
    axis.axis("off")
    return figure, axis


def _box(axis: Axes, left: float, middle: float, width: float, height: float, colour: str) -> None:
    corner = left, middle - height / 2
    axis.add_patch(Rectangle(corner, width, height, facecolor=colour, edgecolor="black", lw=0.6))


def _arrow(axis: Axes, left: float, right: float, height: float) -> None:
    axis.annotate("", (right, height), (left, height), arrowprops=_ARROW)
