"""What is said of the rules' power is what was computed by these rules."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from deepnets.config import params
from deepnets.config.sections import Report
from deepnets.reporting.questions import Sample, judge
from project import ROOT


@pytest.fixture(scope="module")
def power() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks/power.py"))


REPORT = Report.model_validate({"title": "T", "level": 0.05, "margin": 0.005})


@pytest.mark.parametrize("study", ["open-questions", "at-scale"])
def test_the_committed_table_is_of_the_study_as_it_is(power: dict[str, Any], study: str) -> None:
    content = params.load(ROOT / f"studies/{study}/params.yaml")
    count = sum(len(question.ahead) for question in content.report.questions)
    table = pd.read_csv(ROOT / f"studies/{study}/metrics/power.csv")
    learning = table[(table["asks"] == "learning") & (table["seeds"] <= 10)]
    for (row, than), (_, lines) in zip(
        power["CHANCES"], learning.groupby("scenario", sort=False), strict=True
    ):
        for line in lines.itertuples():
            exact = power["_compute"](row, than, line.seeds, content.report, count)
            assert (line.yes, line.no) == pytest.approx(exact, abs=1e-4)
    lists = table[table["asks"] == "list"]
    assert set(lists["seeds"]) == {len(content.train.seeds)}
    # The level, and as much as so many simulated lists may be off by.
    assert lists["wrong"].max() <= content.report.level + 0.01


def test_what_is_computed_is_what_is_drawn(power: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    words = []
    for _ in range(1500):
        row, than = (np.where(rng.random(5) < chance, 0.9, 0.1).tolist() for chance in (0.9, 0.1))
        words.append(judge([Sample(row, than, "learning")], 0.05, 0.005, 2)[0].word)
    yes, no = power["_compute"](0.9, 0.1, 5, REPORT, 2)
    assert words.count("yes") / 1500 == pytest.approx(yes, abs=0.04)
    assert no < 1e-4


def test_a_pair_is_drawn_with_its_truth(power: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    pair = power["normal_pair"](rng, 0.01, 0.005, 0.001, 0.004)
    row, than = np.array(pair.row(2000)), np.array(pair.than(2000))
    assert row.mean() - than.mean() == pytest.approx(0.01, abs=5e-4)
    assert row.std() == pytest.approx(0.001, rel=0.1)
    assert than.std() == pytest.approx(0.004, rel=0.1)
    assert (pair.right, pair.wrong) == ("yes", "no")
    truths = {share: power["normal_pair"](rng, share, 0.005, 0, 0) for share in (0, 0.0025, 0.005)}
    assert [(truth.right, truth.wrong) for truth in truths.values()] == [
        ("no", "yes"),
        ("either", ""),
        ("yes", "no"),
    ]


def test_spreads_are_of_rows_that_learned_with_several_seeds(
    power: dict[str, Any], tmp_path: Path
) -> None:
    lines = ["row,seed,test_accuracy,val_accuracy"]
    for row, accuracies in {
        "one-seed": [0.99],
        "stuck": [0.97, 0.1135],
        "calm": [0.98, 0.98, 0.983],
        "usual": [0.97, 0.98],
        "wild": [0.91, 0.99],
    }.items():
        lines += [f"{row},{seed},{accuracy},0.9" for seed, accuracy in enumerate(accuracies)]
    (tmp_path / "pilot.csv").write_text("\n".join(lines))
    expected = [
        np.std(sample, ddof=1) for sample in ([0.98, 0.98, 0.983], [0.97, 0.98], [0.91, 0.99])
    ]
    assert power["pilot_spreads"](tmp_path / "pilot.csv") == pytest.approx(expected, abs=1e-4)


def test_the_table_has_every_scenario(power: dict[str, Any]) -> None:
    power["table"].__globals__["TRIED"] = (3, 5)
    lines = pd.DataFrame(power["table"](REPORT, 2, 3, (0.002, 0.005, 0.01), draws=2))
    assert set(lines["asks"]) == {"accuracy", "learning", "list"}
    assert len(lines[lines["asks"] == "list"]) == 8
    assert (lines[["yes", "no"]].sum(axis=1) <= 1).all()
