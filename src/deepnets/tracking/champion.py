"""Which run of a study's grid is its best, and what a stranger should know about that model.

The best is the one whose saved model, that of its last epoch or, where it keeps that alone, of its
best one, is most accurate on the validation images. What a model does on the test images never
decides anything here.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from deepnets.base import files
from deepnets.base.errors import UserError
from deepnets.records import results
from deepnets.records.results import Numbers
from deepnets.tracking.trainings import TrackedTraining

# The alias of a study's best registered model.
ALIAS = "champion"
# MLflow's own way to name a version of a registered model.
MODEL_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Contender:
    """A finished training with one seed, and what ranks it.

    `validation` is the digest of the images that it was validated on: accuracies on others are
    not comparable.
    """

    training: TrackedTraining
    val_accuracy: float
    val_loss: float
    validation: str

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: by validation accuracy, and where that is equal by the loss."""
        return -self.val_accuracy, self.val_loss


def best(trainings: Sequence[TrackedTraining]) -> Contender | None:
    """The best of the trainings that ran to their end above chance; None if there is none.

    Of two with the same accuracy and loss it is the first. Those whose models are not here, as they
    stayed where they were trained, do not count.

    Raises:
        UserError: they were validated on different images, or the best one's model is damaged.
    """
    contenders = [each for training in trainings for each in _contender(training)]
    if len({contender.validation for contender in contenders}) > 1:
        names = sorted({contender.training.files.name for contender in contenders})
        raise UserError(
            "no run can be called the best: expected all to be validated on the same images; "
            f"received {', '.join(names)} with different ones: bring them up to date with "
            "`dvc repro`"
        )
    chosen = min(contenders, key=lambda contender: contender.rank, default=None)
    if chosen is not None:
        files.verify(chosen.training.model)
    return chosen


def _contender(training: TrackedTraining) -> list[Contender]:
    """The training as a contender; none where it collapsed, diverged or has no such numbers."""
    numbers = training.trained
    if not training.model.is_file():
        return []
    accuracy, loss = (float(numbers.get(key, math.nan)) for key in ("val_accuracy", "val_loss"))
    if not math.isfinite(accuracy + loss) or results.outcome(numbers) != "completed":
        return []
    return [Contender(training, accuracy, loss, training.provenance["data"]["validation"])]


def card(contender: Contender, run_name: str, model: str) -> str:
    """The model card, as Markdown.

    Args:
        contender: what the card is about.
        run_name: what the run is called in MLflow and to `deepnets reproduce`.
        model: the registered model's name.
    """
    provenance = contender.training.provenance
    trained, tested = contender.training.trained, contender.training.tested
    seen, counts = provenance["data"], provenance["images"]
    used = provenance["parameters"].get("train_images") or counts["train"]
    size, versions = provenance["image_size"], provenance["environment"]["versions"]
    commit = provenance["git"]["commit"]
    code = f"commit `{commit}`" if commit else "a folder whose commit git did not tell"
    if provenance["git"]["dirty"]:
        code += ", with changes that were not committed"
    settings = ", ".join(f"{key} {value}" for key, value in provenance["parameters"].items())
    return "\n".join(
        [
            f"# {run_name}",
            "",
            f"A classifier of handwritten digits: uint8 images ({size}, {size}, 3), light on dark, "
            "to ten probabilities. It has the highest validation accuracy of its grid; the test "
            "images had no part in the choice.",
            "",
            "## Data",
            "",
            f"MNIST, {used:,} images to train on, {counts['validation']:,} to validate, "
            f"{counts['test']:,} to test; resized bilinearly to {size}x{size}, the grey channel "
            "repeated three times.",
            "",
            *(f"- {split}: sha256 `{digest}`" for split, digest in seen.items()),
            f"- test: sha256 `{provenance['test_data']}`",
            "",
            "## Recipe",
            "",
            f"{settings}. Made from {code}, with "
            f"{', '.join(f'{name} {version}' for name, version in versions.items())}.",
            "",
            "## Numbers",
            "",
            "| images | accuracy | loss |",
            "| --- | --- | --- |",
            _row(f"training, {_epoch(contender.training)}", trained),
            f"| validation | {contender.val_accuracy:.4f} | {contender.val_loss:.4f} |",
            _row("test", tested) if tested else "| test | not evaluated yet | |",
            "",
            "## Limits",
            "",
            f"An accuracy of 0.95 on {counts['test']:,} test images is known to about "
            f"{100 * _uncertainty(counts['test']):.1f} percentage points (95 %). The highest of "
            "several validation accuracies flatters a little. The model knows single digits, "
            "centred as in MNIST, and nothing else: whatever it is shown, it names a digit, often "
            "with confidence. `deepnets predict` brings other pictures into that form; digits of "
            "fonts, and of hands unlike those of MNIST, are recognised less often.",
            "",
            "## Rebuild and use",
            "",
            "```",
            f"deepnets reproduce {run_name}",
            "deepnets predict PICTURE...",
            f'mlflow models serve --env-manager local -m "models:/{model}@{ALIAS}"',
            "```",
        ]
    )


def _epoch(training: TrackedTraining) -> str:
    """Which epoch's model it is."""
    if results.keep_of(training.provenance) == "best":
        return training.which_epoch()
    return "last epoch"


def _row(name: str, numbers: Numbers) -> str:
    return f"| {name} | {numbers['accuracy']:.4f} | {numbers['loss']:.4f} |"


def _uncertainty(images: int) -> float:
    """Half the width of a 95 % interval around an accuracy of 0.95 on so many images."""
    return 1.96 * math.sqrt(0.95 * 0.05 / images)
