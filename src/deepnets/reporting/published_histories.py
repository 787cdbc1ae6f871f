"""Five trainings of the study epoch by epoch, as it stored them beside its code.

Source: the files `hist*.p` of github.com/Dullaz/cw3, which hold what Keras' `fit` returned: loss
and accuracy after each epoch, on the training images (dropout and augmentation on) and on the
10,000 validation images. Their numbers, unrounded, are in published_histories.json.
"""

from dataclasses import dataclass
from pathlib import Path

from deepnets.base import files
from deepnets.config.fields import Arch, OptimizerName, Weights
from deepnets.reporting import published

PATH = Path(__file__).with_suffix(".json")

# The network, and what else the name of the file says of the run, as we read it: "weighted" for
# one that starts from ImageNet's weights. The study does not explain its names.
_NAMED: dict[str, tuple[Arch, OptimizerName | None, Weights | None]] = {
    "hist.p": ("vgg16", None, None),
    "hist_vgg_sgd.p": ("vgg16", "sgd", None),
    "hist_res.p": ("resnet50", None, None),
    "hist_res_adam.p": ("resnet50", "adam", None),
    "hist_res_sgd_weighted.p": ("resnet50", "sgd", "imagenet"),
}


@dataclass(frozen=True)
class History:
    """A stored training: `rows` have epoch, loss, accuracy, val_loss and val_accuracy.

    `optimizer` and `weights` are what its name says of them; None where it says nothing.
    """

    file: str
    arch: Arch
    optimizer: OptimizerName | None
    weights: Weights | None
    rows: tuple[dict[str, float], ...]

    @property
    def named(self) -> str:
        """What its name says of the run, for people to read."""
        words = [published.network(self.arch)]
        words += [published.OPTIMIZERS[self.optimizer]] if self.optimizer else []
        words += [published.WEIGHTS[self.weights]] if self.weights else []
        return ", ".join(words)

    @property
    def printed(self) -> published.Key | None:
        """The row of the study's tables that has the numbers of the last epoch; None for none."""
        last = self.rows[-1]
        return published.find_key(self.arch, last["accuracy"], last["loss"])


def load() -> list[History]:
    """All five, those of one network beside each other."""
    stored = files.read_json(PATH)
    return [History(file, *named, _rows(stored[file])) for file, named in _NAMED.items()]


def _rows(columns: dict[str, list[float]]) -> tuple[dict[str, float], ...]:
    values = zip(*columns.values(), strict=True)
    return tuple(
        {"epoch": epoch, **dict(zip(columns, row, strict=True))}
        for epoch, row in enumerate(values, start=1)
    )
