"""Train a run again from its record, and say whether it is the same run.

It is trained with the code of its commit, in a checkout beside the user's working tree, as a
free-form run with exactly the recorded parameters, and compared to the bit.
"""

import json
import os
from collections.abc import Sequence
from contextlib import chdir, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tabulate import tabulate

from deepnets.base import project
from deepnets.base.errors import UserError
from deepnets.commands import aside, find
from deepnets.config import params, reader
from deepnets.grid import gpus
from deepnets.records import differences, provenance, results, tolerances
from deepnets.records.differences import Difference, OutcomeComparison
from deepnets.records.provenance import GitState, Provenance
from deepnets.records.results import TrainingRecord

Kind = Literal["bit-identical", "equal within the tolerance", "different"]

# Exit statuses of `deepnets reproduce`; of several seeds, the highest. 1 is for failures, 2 for
# wrong usage.
STATUSES: dict[Kind, int] = {"bit-identical": 0, "equal within the tolerance": 3, "different": 4}

# What a free-form run takes from params.yaml if it is not given, though it applies to this one not
# at all or has no value.
_EMPTY = ("train_images", "momentum", "nesterov", "beta_1", "beta_2", "epsilon")

# Lines of changed code that are shown.
_LINES = 20


@dataclass(frozen=True)
class RerunVerdict:
    """What is to be said of a rerun, and why."""

    kind: Kind
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def main(name: str, seed: int | None = None, here: bool = False) -> int:
    """Reproduce the run `name`, with each of its seeds; returns the exit status.

    Args:
        name: see `find.trainings`.
        seed: only this one.
        here: train with the code and the parameters' file of the working tree as it is.
    """
    statuses = []
    for record in find.trainings(name, seed):
        try:
            verdict = reproduce(record, here)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "interrupted; the checkout aside is gone, and nothing else has been touched"
            ) from None
        print(f"{record}: {verdict}", flush=True)
        statuses.append(STATUSES[verdict.kind])
    return max(statuses)


def reproduce(record: TrainingRecord, here: bool) -> RerunVerdict:
    """Say what differs, train `record` again in a folder of its own, and compare."""
    git = record.provenance["git"]
    if not git["commit"]:
        raise UserError(
            f"{record} has no commit in its record, git did not tell it then: train it again in a "
            "clone of the project"
        )
    if here and record.place:
        record = replace(record, study=record.place)
    used = _working_tree(record) if here else git
    assert used["commit"]
    with aside.checkout(used["commit"], used.get("patch")) as root:
        study = _study(record, root)
        asked = aside.ask_environment(root, os.environ)
        settings = _settings(record.provenance, asked)
        if settings:
            asked = aside.ask_environment(root, os.environ | settings)
        planned = asked and _planned_provenance(record.provenance, root, asked)
        _announce(record, root, study, here, used, settings, planned)
        aside.lend_data(study, root)
        arguments = _arguments(record.provenance["parameters"])
        aside.run(arguments, root, study, os.environ | settings)
        (folder,) = (root / study / "single").glob("*/")
        (rerun,) = results.read_folder(folder)
    causes = differences.inputs(record.provenance, rerun.provenance)
    outcome = differences.outcomes(record, rerun)
    print(tabulate(describe_comparison(record, rerun, outcome), tablefmt="plain"))
    return judge(record, rerun, outcome, causes)


def _working_tree(record: TrainingRecord) -> GitState:
    """Commit and patch of the working tree that the run's study is in."""
    study = project.root() / (record.study or ".")
    if not study.is_dir():
        raise UserError(f"there is no {study}, the study of {record}: leave --here out")
    with chdir(study):
        used, lacking = provenance.git_state(), provenance.why_not_rebuildable()
    if lacking:
        raise UserError(f"--here needs to know what is changed here: {lacking}")
    return used


def judge(
    record: TrainingRecord,
    rerun: TrainingRecord,
    outcome: OutcomeComparison,
    causes: Sequence[Difference],
) -> RerunVerdict:
    """What the comparison of a rerun with `record` comes to.

    Args:
        record: of the run.
        rerun: of the rerun.
        outcome: how the two compare.
        causes: what went into the rerun otherwise.

    Raises:
        UserError: nothing differs, but too little was recorded to call them the same.
    """
    differs = "; ".join(difference.text for difference in causes)
    if outcome.alike and not outcome.enough:
        raise UserError(
            f"{record} came out again as far as it was recorded, but that holds neither its final "
            "weights nor predictions: evaluate it (`deepnets evaluate`) and try again"
        )
    if outcome.identical:
        lacking = "" if outcome.weights else " (it has not recorded its final weights)"
        beside = f", although there is a difference ({differs})" if differs else ""
        return RerunVerdict(
            "bit-identical", f"all that was recorded came out again{lacking}{beside}"
        )
    what = f"what differs: {differs}" if differs else "nothing that is recorded differs"
    if not outcome.start:
        where = "from the starting weights on"
    else:
        where = f"from {outcome.parting} on" if outcome.parting else "after the last epoch"
    kinds = {difference.cause for difference in causes} - {"other"}
    tolerance = None
    comparable = outcome.start and len(set(outcome.epochs)) == 1 and record.outcome == rerun.outcome
    if comparable and outcome.test and outcome.images:
        accuracy, again = outcome.test["accuracy"]
        tolerance = tolerances.find_tolerance(kinds, accuracy, outcome.images)
        if tolerance and tolerance.low <= again <= tolerance.high:
            kind: Kind = "equal within the tolerance"
            return RerunVerdict(kind, f"{where}; {what}; {tolerance.basis}")
    limit = f"beyond the tolerance ({tolerance.basis})" if tolerance else "no tolerance is known"
    if outcome.test and outcome.test["accuracy"][0] < tolerances.LEARNED:
        limit += f" for a run with a test accuracy below {tolerances.LEARNED}"
    return RerunVerdict("different", f"{where}; {what}; {limit}")


def describe_comparison(
    record: TrainingRecord, rerun: TrainingRecord, outcome: OutcomeComparison
) -> list[tuple[str, str]]:
    """The comparison in words, a row for each thing that is compared."""
    digests = {
        key: [str(training.provenance.get(key, "")) for training in (record, rerun)]
        for key in ("start", "weights")
    }
    if outcome.parting is None:
        history = f"the same in all {outcome.epochs[0]} epochs"
    else:
        sizes = [f"{metric} {size:.3g}" for metric, size in outcome.furthest.items() if size]
        apart = f"; furthest apart: {', '.join(sizes)}" if sizes else ""
        history = f"parts in {outcome.parting}{apart}"
    return [
        ("starting weights", _bits(outcome.start, *digests["start"])),
        ("history", history),
        ("final weights", _bits(outcome.weights, *digests["weights"])),
        ("predictions", _predictions(outcome)),
        *((f"test {key}", _number(*both)) for key, both in outcome.test.items()),
    ]


def _bits(same: bool | None, then: str, now: str) -> str:
    if same is None:
        return f"not recorded then; sha256 {now[:16]} now"
    if same:
        return f"the same bits, sha256 {now[:16]}"
    return f"other bits: sha256 {then[:16]}, now {now[:16]}"


def _predictions(outcome: OutcomeComparison) -> str:
    if outcome.disagree is None:
        return "not to be compared: the run was not evaluated, or on other images"
    if outcome.probability is None:
        close = "; probabilities not at hand"
    elif outcome.probability:
        close = f"; probabilities up to {outcome.probability:.3g} apart"
    else:
        close = ", with the same probabilities to the bit"
    if not len(outcome.disagree):
        return f"the same digit on all {outcome.images:,} test images{close}"
    return f"another digit on {len(outcome.disagree):,} of {outcome.images:,} test images{close}"


def _number(then: float, now: float) -> str:
    return f"{then!r}" if then == now else f"{then!r}, now {now!r}"


def _study(record: TrainingRecord, root: Path) -> Path:
    """The folder of the run's study in the checkout `root`, relative to it."""
    folders = [
        params.FILE,
        *(file.relative_to(root) for file in root.glob("studies/*/params.yaml")),
    ]
    if record.study:
        folders = [Path(record.study) / params.FILE]
    for file in folders:
        if (root / file).is_file():
            name = reader.read_yaml(root / file, anchors=True)["publish"]["experiment"]
            if record.study or record.experiment in (name, f"{name}-single"):
                return file.parent
    raise UserError(
        f"the study of {record} is not in its commit: expected "
        + (
            f"{record.study}/{params.FILE} there; name the folder that it was committed with"
            if record.study
            else f"a study with the experiment {record.experiment!r}; run it inside of the project"
        )
    )


def _arguments(parameters: dict[str, Any]) -> list[str]:
    """The free-form run that has exactly these parameters."""
    values = dict.fromkeys(_EMPTY) | parameters
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
    return ["run", *(f"--{key}={text}" for key, text in texts.items())]


def _settings(then: Provenance, asked: aside.Asked | None) -> dict[str, str]:
    """Variables of the run that change what is computed, where nobody would set them like that.

    Neither its code, which has been `asked`, nor the user, whose own ones win.
    """
    chosen = asked[0]["settings"] if asked else {}
    recorded = then["environment"]["settings"]
    wanted = {key: value for key, value in recorded.items() if differences.changes_results(key)}
    if not then["environment"]["hardware"]["devices"] and gpus.VISIBLE in recorded:
        # It hid the cards. Where it named one, another machine need not have that.
        wanted[gpus.VISIBLE] = recorded[gpus.VISIBLE]
    return {
        key: value
        for key, value in wanted.items()
        if key not in os.environ and chosen.get(key) != value
    }


def _announce(
    record: TrainingRecord,
    root: Path,
    study: Path,
    here: bool,
    used: GitState,
    settings: dict[str, str],
    planned: dict[str, Any] | None,
) -> None:
    """Say what is rebuilt, with what, and what differs between then and now.

    Args:
        record: of the run.
        root: of the checkout that the rerun uses.
        study: the folder of the run's study, relative to `root`.
        here: whether that is the working tree's code.
        used: the commit and patch of the checkout.
        settings: from `_settings`.
        planned: from `_planned_provenance`; None where the code of the rerun does not tell.
    """
    git, then = record.provenance["git"], record.provenance
    place = f" of {record.study}" if record.study not in (None, ".") else ""
    assert git["commit"]
    code = "this working tree" if here else f"commit {git['commit'][:12]}"
    print(f"{record}{place}: trained at commit {git['commit'][:12]}, {len(record.history)} epochs")
    print(f"rebuilding it with the code of {code}, in a folder of its own")
    patch = used.get("patch")
    if not here and patch:
        changed = ", ".join(aside.changed_files(patch))
        print(f"with the uncommitted changes that it was trained with: {changed}")
    elif not here and git["dirty"]:
        print("it was trained with uncommitted changes that its record does not hold")
    if settings:
        print("with its settings: " + ", ".join(f"{k}={v}" for k, v in settings.items()))
    if planned is None:
        print("then and now: the code of that commit does not tell what it makes of this machine")
        causes = []
    else:
        causes = differences.inputs(then, planned)
        if here:
            causes += _preprocessing_differences(then, root / study / params.FILE)
        print("then and now:" if causes else "then and now: nothing differs that shapes a training")
    for difference in causes:
        print(f"    {difference.cause}: {difference.text}")
    mine = provenance.code_digests(provenance.PACKAGE, then["code"])
    others = sorted(name for name, digest in then["code"].items() if mine.get(name) != digest)
    if here and not git["dirty"]:
        # Its commit need not be in this repository.
        with suppress(UserError):
            for line in aside.changed_lines(git["commit"], others)[:_LINES]:
                print(f"        {line}")
    elif others and not here:
        print(f"this working tree has other code, which is not used: {', '.join(others)}")
    print(flush=True)


def _preprocessing_differences(then: Provenance, file: Path) -> list[Difference]:
    """What `file` has preprocessing do otherwise than it was done for a run."""
    now = params.load(file, anchors=True).preprocess
    pairs = {
        "image_size": (then["image_size"], now.image_size),
        "validation_images": (then["images"]["validation"], now.validation_images),
    }
    return [
        Difference("training", f"{key} {before}, now {after}")
        for key, (before, after) in pairs.items()
        if before != after
    ]


def _planned_provenance(then: Provenance, root: Path, asked: aside.Asked) -> dict[str, Any]:
    """What the provenance of the rerun is going to be, as far as it is known beforehand."""
    environment, libraries = asked
    # Without a framework nobody can tell.
    environment["hardware"].pop("devices", None)
    return {
        **then,
        "code": provenance.code_digests(root / "src" / "deepnets", then["code"]),
        "libraries": libraries,
        "environment": environment,
    }
