"""The colour of each optimizer, the same in every figure and in MLflow."""

import zlib

BLUE, VERMILION, ORANGE = "#0072B2", "#D55E00", "#E69F00"
OPTIMIZER_COLOURS = {"adam": VERMILION, "sgd": BLUE}
# Of optimizers that the study has not.
_OTHER_COLOURS = ("#009E73", "#CC79A7", ORANGE, "#56B4E9")


def optimizer_colour(optimizer: str) -> str:
    """The colour of runs with `optimizer`, as `#RRGGBB`: always the same one for a name."""
    chosen = zlib.crc32(optimizer.encode()) % len(_OTHER_COLOURS)
    return OPTIMIZER_COLOURS.get(optimizer, _OTHER_COLOURS[chosen])
