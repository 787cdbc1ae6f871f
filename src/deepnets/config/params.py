"""A params.yaml as a whole: the only reader of it, strict about what it does not know.

Everything that can be known to be wrong without data or a framework is refused here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from deepnets.base.errors import UserError
from deepnets.config import reader, registry
from deepnets.config.fields import WEIGHTS, Name, Section
from deepnets.config.rows import check_images, resolve
from deepnets.config.sections import (
    Diagnose,
    Download,
    Evaluate,
    Preprocess,
    Publish,
    Recipe,
    Report,
    RunEntry,
    RunParams,
    StartingWeights,
    Train,
    rows_of,
)
from deepnets.config.words import describe, quote

FILE = Path("params.yaml")

# Stages that write to metrics/NAME, which is where a run of that name would.
_TAKEN_NAMES = frozenset({"preprocess"})

# Pixels in a batch: 16,384 images of 32x32. What VGG-16 keeps of each for its way back is
# 1.08 KiB (its activations, float32), which makes 17 GiB before anything else.
LARGEST_BATCH = 2**24


class Params(Section):
    """All of params.yaml. A section has the name of its stage; the others are described above."""

    download: Download
    preprocess: Preprocess
    initialize: list[Name]
    train: Train
    recipes: dict[Name, Recipe]
    starting_weights: dict[Name, StartingWeights] = Field(default_factory=dict)
    diagnose: Diagnose = Diagnose()
    evaluate: Evaluate
    report: Report
    publish: Publish
    run: RunEntry
    runs: dict[Name, RunEntry]

    def entry(self, name: str) -> RunEntry:
        """The row `name` as it stands in the file; an unknown name is a `UserError`."""
        if name not in self.runs:
            raise UserError(
                f"no run is called {quote(name)} in {FILE}: expected one of {', '.join(self.runs)}"
            )
        return self.runs[name]

    def check_start(self, name: str) -> None:
        """Refuse a `name` (ARCH-WEIGHTS) that `initialize` does not list."""
        if name not in self.initialize:
            raise UserError(
                f"{quote(name)} is not a starting point of {FILE}: "
                f"expected one of {', '.join(self.initialize)}"
            )

    def run_params(self, name: str, seed: int) -> RunParams:
        """The row `name`, resolved for one of its seeds; an unknown name is a `UserError`."""
        return resolve(self.train, self.recipes, self.entry(name), seed)

    def check(self, run: RunParams, place: str) -> None:
        """Refuse a run that the study's data cannot feed, no memory can hold, or nothing starts.

        Args:
            run: resolved parameters.
            place: where they come from, for the message.
        """
        self._check_weights(run, place)
        held = registry.data_sets()[self.download.source].train_images
        check_images(run, held - self.preprocess.validation_images, place)
        size = self.preprocess.image_size
        most = LARGEST_BATCH // size**2
        if run.batch_size > most:
            raise UserError(
                f"{place}: batch_size: expected at most {most} images of {size}x{size}, so that "
                f"a batch fits into memory; received {run.batch_size}: lower it"
            )

    def _check_weights(self, run: RunParams, place: str) -> None:
        if run.weights == "imagenet" and registry.architectures()[run.arch].imagenet is None:
            raise UserError(
                f"{place}: weights: no ImageNet weights of {run.arch} are known: choose others"
            )
        if run.weights in WEIGHTS:
            return
        known = self.starting_weights.get(run.weights)
        if known is None:
            raise UserError(
                f"{place}: weights: expected one of "
                f"{', '.join([*WEIGHTS, *self.starting_weights])}; received {run.weights!r}: "
                "correct it, or describe these weights in the section starting_weights"
            )
        if run.arch not in known.archs:
            raise UserError(
                f"{place}: weights: {run.weights} fits {' and '.join(known.archs)}, "
                f"not {run.arch}: choose others"
            )


def load(path: Path = FILE, *, anchors: bool = False) -> Params:
    """Read and check `path`.

    Args:
        path: a params.yaml.
        anchors: as for `reader.read_yaml`.

    Raises:
        UserError: it is missing, malformed, or holds something that cannot be meant; the message
            names the first such place, what was expected there and what was found.
    """
    return parse(reader.read_yaml(path, anchors=anchors), str(path))


def parse(content: Any, source: str = str(FILE)) -> Params:
    """Check the content of a params.yaml that came from `source`."""
    if not isinstance(content, dict):
        received = "nothing" if content is None else f"a {type(content).__name__}"
        raise UserError(
            f"{source}: expected a mapping with the sections {', '.join(Params.model_fields)}; "
            f"received {received}: restore it with `git checkout -- params.yaml`"
        )
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{source}: {describe(error, Params)}") from None
    except RecursionError:
        raise UserError(f"{source}: nested too deeply: expected sections of plain values") from None
    _check_together(params, source)
    return params


def _check_together(params: Params, source: str) -> None:
    """Refuse what only shows when sections are seen together."""
    if not params.runs:
        raise UserError(f"{source}: runs: expected at least one run; received none")
    for name in sorted(_TAKEN_NAMES & set(params.runs)):
        raise UserError(f"{source}: runs: {name!r} is the name of a stage: rename the run")
    if len(set(params.train.seeds)) != len(params.train.seeds):
        raise UserError(f"{source}: train.seed: a seed stands there twice: remove one")
    rows = {f"runs.{name}": entry for name, entry in params.runs.items()} | {"run": params.run}
    for place, entry in rows.items():
        try:
            run = resolve(params.train, params.recipes, entry, params.train.seeds[0])
        except ValueError as error:
            raise UserError(f"{source}: {place}: {error}") from None
        params.check(run, f"{source}: {place}")
    for name in sorted(set(WEIGHTS) & set(params.starting_weights)):
        raise UserError(f"{source}: starting_weights: every study has {name!r}: rename yours")
    needed = {entry.start for entry in params.runs.values()}
    for start in sorted(needed - set(params.initialize)):
        raise UserError(f"{source}: initialize: a run starts from {start!r}: add it to the list")
    for start in sorted(set(params.initialize) - needed):
        raise UserError(f"{source}: initialize: no run starts from {start!r}: remove it")
    for place, names in {
        "initialize": params.initialize,
        "diagnose.runs": params.diagnose.runs,
    }.items():
        if len(set(names)) != len(names):
            raise UserError(f"{source}: {place}: a name stands there twice: remove one")
    for place, name in _named_runs(params):
        if name not in params.runs:
            raise UserError(
                f"{source}: {place}: no run is called {quote(name)}: expected one of runs"
            )


def _named_runs(params: Params) -> Iterator[tuple[str, str]]:
    """Where other sections name rows of the grid, and which."""
    for name in params.diagnose.runs:
        yield "diagnose.runs", name
    for number, question in enumerate(params.report.questions, start=1):
        place = f"report.questions, number {number}"
        for pair in question.ahead:
            for side in (pair.row, pair.than):
                yield from ((f"{place}: ahead", name) for name in rows_of(side))
        for name in question.diagnosed:
            yield f"{place}: diagnosed", name
    for name in params.report.goal.rows if params.report.goal else ():
        yield "report.goal", name
