"""The one list of what can be said of a training: each field's name, type, bounds, default, help.

The sections and rows of params.yaml, `deepnets run --help`, MLproject's parameters and MLflow's
columns follow from it (`sections`). What belongs to one optimizer alone stands with it
(training/optimizers/), as a subclass of `Settings`.
"""

import struct
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)

from deepnets.config import registry
from deepnets.config.registry import PixelRange

# Starting weights that every study has: drawn by Keras' default, those that Keras publishes, drawn
# after He et al. 2015. A study may name further ones, see `sections.StartingWeights`.
WEIGHTS = ("random", "imagenet", "he")
# Those of them that come from no file, and so exist for any layer.
DRAWN_WEIGHTS = ("random", "he")

# A value that may be given in another shape too. The tag of the shape is part of the place that
# pydantic reports; messages leave it out (`words`).
PLAIN, OTHER = "<plain>", "<other>"


def _round_to_float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _require_positive_in_float32(value: float) -> float:
    # The smallest normal number; processors may take what is below it for 0.
    if _round_to_float32(value) < 2**-126:
        raise ValueError("a number that networks, which compute in float32, do not take for 0")
    return value


def _require_below_one_in_float32(value: float) -> float:
    if _round_to_float32(value) == 1:
        raise ValueError("a number that networks, which compute in float32, do not take for 1")
    return value


def one_of(names: Callable[[], dict[str, Any]]) -> BeforeValidator:
    """A validator that takes the names of entries alone."""

    def check(value: Any) -> Any:
        known = list(names())
        if value not in known:
            *others, last = map(repr, known)
            raise ValueError(f"{', '.join(others)} or {last}" if others else last)
        return value

    return BeforeValidator(check)


def _or(is_other: Callable[[Any], bool]) -> Discriminator:
    return Discriminator(lambda value: OTHER if is_other(value) else PLAIN)


Arch = Annotated[str, one_of(registry.architectures)]
OptimizerName = Annotated[str, one_of(registry.optimizers)]
InputRange = Literal["study", PixelRange]
# What products are computed in; weights, their updates and the loss are float32 in either.
Precision = Literal["float32", "exact_float32", "mixed_bfloat16"]
# Which epochs' models a training leaves behind. The best is by validation accuracy, the first such.
Keep = Literal["last", "best", "both"]

Count = Annotated[int, Field(ge=1, le=1_000_000)]
# Of one image, batch normalisation learns nothing on the 1x1 maps of ResNet50's last stage, and
# where VGG-16's batches are halved (views.Halve) one half would be empty.
BatchSize = Annotated[int, Field(ge=2, le=1_000_000)]
# Checkpoints are sorted by their epoch, which has five digits.
Epochs = Annotated[int, Field(ge=1, le=99_999)]
Rate = Annotated[
    float, Field(gt=0, le=1000, allow_inf_nan=False), AfterValidator(_require_positive_in_float32)
]
NonNegative = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Fraction = Annotated[
    float, Field(ge=0, lt=1, allow_inf_nan=False), AfterValidator(_require_below_one_in_float32)
]
Degrees = Annotated[float, Field(ge=0, le=180, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# A folder, an argument on a command line and, in DVC, a part of a path whose parts dots divide.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,79}$")]
# Rows of the grid: one, or several of which the best by validation accuracy stands for them.
Rows = Annotated[
    Annotated[Name, Tag(PLAIN)]
    | Annotated[list[Name], Field(min_length=2, max_length=20), Tag(OTHER)],
    _or(lambda value: isinstance(value, list)),
]
# Of starting weights: one of WEIGHTS, or one that the study describes.
Weights = Name

# Of a recipe: one for all networks, or one for each.
RatePerArch = Annotated[
    Annotated[Rate, Tag(PLAIN)] | Annotated[dict[Arch, Rate], Tag(OTHER)],
    _or(lambda value: isinstance(value, dict)),
]
# The rule is that of the study's code: 0.001 / 15, 0.01 / 15 and 0.005 / 50.
Decay = Annotated[
    Annotated[NonNegative, Tag(PLAIN)]
    | Annotated[Literal["learning_rate/epochs", "cosine"], Tag(OTHER)],
    _or(lambda value: value in ("learning_rate/epochs", "cosine")),
]
Seeds = Annotated[
    Annotated[Seed, Tag(PLAIN)]
    | Annotated[list[Seed], Field(min_length=1, max_length=100), Tag(OTHER)],
    _or(lambda value: isinstance(value, list)),
]


class Section(BaseModel):
    """What all of params.yaml has in common: no unknown key, no value of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Row(Section):
    """What a row of the grid must say."""

    arch: Arch = Field(description="network")
    optimizer: OptimizerName = Field(description="optimizer")
    weights: Weights = Field(
        description="random (Keras' default), imagenet, he (He normal), or one of starting_weights"
    )

    @property
    def start(self) -> str:
        """Name of the starting weights: ARCH-WEIGHTS."""
        return f"{self.arch}-{self.weights}"


class Regime(Section):
    """How a network is trained.

    The augmentation is drawn uniformly: rotation within +-`augment_rotation` degrees, shift within
    +-`augment_shift` of the side, zoom within 1 +- `augment_zoom`, each axis by itself.
    """

    recipe: Name = Field(description="settings of the optimizers: text or code (of the study)")
    epochs: Epochs = Field(description="passes over the training images")
    batch_size: BatchSize = Field(description="images in a step")
    train_images: Count | None = Field(
        description="train on the first so many images only (null: on all)"
    )
    dropout: Fraction = Field(description="rate before the last layer")
    batch_norm_momentum: Fraction = Field(description="of the moving statistics")
    precision: Precision = Field(
        default="float32",
        description="float32 (GPUs round factors to TF32), exact_float32, or mixed_bfloat16",
    )
    augment_rotation: Degrees = Field(description="degrees, to either side")
    augment_shift: Fraction = Field(description="fraction of the side, each way")
    augment_zoom: Fraction = Field(description="fraction, in and out")


class Variant(Section):
    """What a network is built otherwise than the study's; the defaults are the study's own.

    The small stem is that of He et al. 2016, section 4.2; batch normalisation that of Ioffe and
    Szegedy 2015. What a network has of the last four, its own file says (networks/architectures/).
    """

    input_range: InputRange = Field(
        default="study", description="study, unit [0, 1], symmetric [-1, 1], or standardized"
    )
    input_channels: Literal[1, 3] = Field(default=3, description="3 (tiled) or 1")
    upsampling: Literal[1, 2] = Field(
        default=1, description="2 doubles the image's side inside the network (bilinear)"
    )
    stem: Literal["standard", "small"] = Field(
        default="standard", description="standard, or small (3x3, stride 1, no pooling)"
    )
    stages: Literal[3, 4] = Field(default=4, description="4, or 3 (without the last, conv5)")
    batch_norm: bool = Field(default=False, description="true normalises after each convolution")
    highway: bool = Field(default=False, description="true adds gated connections")


class Shared(Variant, Regime):
    """What all runs share unless their entry says otherwise.

    Silencing the residual branches is Goyal et al. 2017, section 5.1; smoothed labels are Szegedy
    et al. 2016, section 7.
    """

    zero_gamma: bool = Field(
        default=False, description="true starts residual blocks as the identity"
    )
    label_smoothing: Fraction = Field(
        default=0.0, description="share of a label that is spread over all digits"
    )
    keep: Keep = Field(
        default="last", description="model of the last epoch, of the best one, or both"
    )


class Settings(Section):
    """What every optimizer has; `decay` is Keras 2's, per step (see training/optimization.py).

    `cosine` (Loshchilov and Hutter 2017, without restarts) begins after `warmup_epochs` of a rate
    that rises linearly from 0 (Goyal et al. 2017, section 2.2).
    """

    learning_rate: Rate = Field(description="at the first step")
    decay: Decay = Field(description="lr / (1 + decay * step); learning_rate/epochs; or cosine")
    warmup_epochs: NonNegative = Field(
        default=0.0, description="epochs in which a cosine's rate rises from 0"
    )
