"""The report on a study whose files are made up: what it says of what is there and what is not."""

import base64
import re
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import made_up
from deepnets.base import files, project
from deepnets.config.params import FILE, load
from deepnets.records import results
from deepnets.records.results import Outcome
from deepnets.reporting import (
    histories,
    live_curves,
    page,
    published,
    questions,
    tables,
    verdicts,
)
from deepnets.reporting.comparisons import Scale
from deepnets.reporting.sections import claims, origins
from deepnets.stages import report
from project import ROOT


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with three of nine runs finished, and its report."""
    return made_up.study(tmp_path_factory)


@pytest.fixture(scope="module")
def text(study: Path) -> str:
    return (study / report.TEXT).read_text()


def _results(text: str, network: str) -> str:
    """The table of a network's results and what stands below it."""
    results = text[text.index("\n## Results") : text.index("\n## Learning curves")]
    return results.partition(f"### {network}\n\n")[2].partition("\n###")[0]


def test_missing_rows_are_named(text: str) -> None:
    assert "3 of 9 runs are finished." in text
    assert f"Not run yet: {', '.join(made_up.MISSING)}." in text


def test_small_scale_is_said_before_any_number(text: str) -> None:
    said = text.index("train on 3,200 images for 2 or 50 epochs; the study trained on 50,000")
    assert said < text.index("0.9924")


def _whole(params: dict[str, Any]) -> None:
    params["train"] |= {"train_images": None, "epochs": 15}


def _few_images(params: dict[str, Any]) -> None:
    params["train"] |= {"train_images": 3200, "epochs": 15}


def _few_epochs(params: dict[str, Any]) -> None:
    params["train"] |= {"train_images": None, "epochs": 2}


def _of_its_own(params: dict[str, Any]) -> None:
    """At a small scale, but none of its rows is meant to be one of the study's."""
    _few_epochs(params)
    params["train"]["label_smoothing"] = 0.1


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_whole, None),
        (_few_images, "train on 3,200 images for 15 or 50 epochs; the study trained on 50,000 for"),
        (_few_epochs, "train on 50,000 images for 2 or 50 epochs; the study trained on 50,000 for"),
        (_of_its_own, None),
    ],
)
def test_fewer_images_or_fewer_epochs_are_a_reduced_scale(
    edit: Callable[[dict[str, Any]], None], said: str | None, tmp_path: Path
) -> None:
    def seeded(params: dict[str, Any]) -> None:
        edit(params)
        params["train"]["seed"] = list(made_up.SEEDS)

    text = (made_up.reported(tmp_path, seeded, {}, drawn=()) / report.TEXT).read_text()
    assert ("Reduced scale" in text) == (said is not None)
    assert said is None or said in text


def test_convergence_is_that_of_each_seed_at_each_level(text: str) -> None:
    section = text[text.index("## Convergence") : text.index("## Where they err")]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|") and not line.startswith("|:")
    ]
    # Validation accuracies: 0.97, 0.98 and 0.96, 0.97; stuck and 0.965, 0.975; 0.93, 0.94 and none.
    assert rows == [
        ["run", "97 %", "98 %", "99 %"],
        ["vgg16-adam-random", "1, 2", "2, never", "never, never"],
        ["vgg16-sgd-random", "never, 2", "never, never", "never, never"],
        ["resnet50-sgd-random", "never, never", "never, never", "never, never"],
    ]


def test_collapsed_and_diverged_runs_are_marked(text: str) -> None:
    assert "vgg16-sgd-random: 1 of 2 collapsed" in text
    assert "resnet50-sgd-random: 1 of 2 diverged" in text


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        (["collapsed"] * 3, "collapsed"),
        (["diverged"], "diverged, 1 of 3 seeds"),
        (["collapsed", "completed"], "1 of 3 collapsed, 2 of 3 seeds"),
        (["collapsed", "diverged", "collapsed"], "2 of 3 collapsed, 1 of 3 diverged"),
        (["completed"] * 3, ""),
    ],
)
def test_seeds_that_all_ended_alike_are_one_word(outcomes: list[Outcome], state: str) -> None:
    name = "vgg16-adam-random"
    runs = [load(ROOT / FILE).run_params(name, 0).model_copy(update={"seed": s}) for s in range(3)]
    seeds = [
        results.TrainingRecord(
            run=name,
            seed=seed,
            row=runs[seed],
            history=[],
            timing=[],
            outcome=outcome,
            provenance={"parameter_count": {"total": 1}},
            test={"accuracy": 0.1, "loss": 2.3},
        )
        for seed, outcome in enumerate(outcomes)
    ]
    assert tables.results({name: runs}, {name: seeds})["state"].tolist() == [state]


def test_ours_stand_beside_the_studys_with_difference_and_spread(text: str) -> None:
    table = _results(text, "VGG-16")
    row = next(line for line in table.splitlines() if line.startswith("| vgg16-adam-random "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    # Seeds with 20 and 40 of 2,000 wrong: mean 0.985, deviation 0.01 / sqrt(2).
    assert "0.9850 ± 0.0071" in cells
    assert "0.9924" in cells
    assert "-0.74" in cells
    assert "14,719,818 parameters, 818 of them not trained." in text


def test_results_fit_into_a_window_and_the_table_of_all_is_named(study: Path, text: str) -> None:
    headings = [cell.strip() for cell in _results(text, "VGG-16").split("\n")[0].split("|")[1:-1]]
    assert headings == [
        *["run", "epochs", "test acc", "95 % interval", "study's test acc", "difference"],
        *["train acc", "study's train acc", "val acc", "note"],
    ]
    assert "`results.csv` has every row unrounded" in text
    kept = set(pd.read_csv(study / report.RESULTS_TABLE))
    assert {"loss", "test_loss", "study_loss", "study_test_loss", "best_epoch"} <= kept
    assert {"seconds", "parameters", "rebuilt_by"} <= kept


def test_runs_that_were_not_made_have_no_numbers_of_ours(study: Path) -> None:
    table = pd.read_csv(study / report.RESULTS_TABLE).set_index("run")
    assert table.loc[made_up.MISSING, "test_accuracy"].isna().all()
    assert (table.loc[made_up.MISSING, "state"] == "not run").all()
    assert table.loc["resnet50-adam-random", "study_test_accuracy"] == 0.984
    assert table.loc["resnet50-sgd-random-long", "study_accuracy"] == 0.9739


def test_paired_test_of_each_seed_is_the_exact_one(study: Path) -> None:
    pairs = pd.read_csv(study / report.PAIRS_TABLE)
    assert set(pairs["differ in"]) == {"optimizer"}
    second = pairs[pairs["seed"] == 1].iloc[0]
    assert (second["a"], second["b"]) == ("vgg16-adam-random", "vgg16-sgd-random")
    # Adam misses the first 40 images and SGD the first 30.
    assert (second["only a right"], second["only b right"]) == (0, 10)
    assert second["p"] == pytest.approx(2 / 2**10)


def test_every_number_says_which_command_rebuilds_it(study: Path, text: str) -> None:
    table = pd.read_csv(study / report.RESULTS_TABLE).set_index("run")
    trained = [name for name in table.index if name not in made_up.MISSING]
    for name in trained:
        assert table.loc[name, "rebuilt_by"] == f"deepnets reproduce {name}"
        # Right below the row's table.
        below = _results(text, "VGG-16" if name.startswith("vgg16") else "ResNet50")
        assert f"`deepnets reproduce {name}`" in below.partition("\n\n")[2]
    assert not [name for name in made_up.MISSING if f"reproduce {name}`" in text]
    assert table.loc[made_up.MISSING, "rebuilt_by"].isna().all()
    shown = pd.read_csv(study / report.PAIRS_TABLE)["shown by"]
    assert shown[1] == "deepnets diff vgg16-adam-random vgg16-sgd-random --seed 1"
    # Every section with a table of numbers of runs.
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        if "| --" in section or "|:--" in section:
            assert "deepnets reproduce" in section or "deepnets diff" in section, section[:80]


def test_every_claim_has_a_verdict(text: str) -> None:
    table = text[text.index("## The study's claims") : text.index("The rules, fixed")]
    assert re.findall(r"\*\*(supported|contradicted|undecided|not run)\*\*", table) == [
        "undecided",
        "not run",
        "not run",
        "undecided",
        "not run",
    ]


def test_rules_stand_with_their_date_and_the_later_form_after_them(text: str) -> None:
    claims = text[text.index("## The study's claims") : text.index("## Results")]
    assert "The rules, fixed on 23 November 2026, before the runs:" in claims
    rules, _, after = claims.rpartition("\n- ")
    assert "27 November 2026" not in rules
    assert "27 November 2026, after the full-scale numbers were known" in after
    assert "decides no comparison differently" in after


def test_scope_is_read_together_with_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = [
        verdicts.Verdict("One.", "contradicted", "Numbers.", "from random weights"),
        verdicts.Verdict("Two.", "supported", "Numbers."),
    ]
    monkeypatch.setattr(verdicts, "judge", lambda _: judged)
    table = claims.verdicts({})[1]
    cells = [[cell.strip() for cell in line.split("|")[3:4]] for line in table.splitlines()[2:]]
    assert cells == [["**contradicted** from random weights"], ["**supported**"]]


def test_provenance_says_where_the_runs_differ(text: str) -> None:
    made = text[text.index("## How this was made") :]
    assert "Seeds: 0, 1." in made
    assert "c0ffee" in made
    assert "yes (vgg16-adam-random seed 1, vgg16-sgd-random seed 1" in made
    assert 16 * "a" in made
    assert "The rows from ImageNet weights were not run" in made
    assert "train_images 3200" in made


def test_changes_that_nobody_knows_of_are_not_called_none() -> None:
    said = origins._PROVENANCE["uncommitted changes"]
    runs = [SimpleNamespace(provenance={"git": {"dirty": dirty}}) for dirty in (True, False, None)]
    assert [said(run) for run in runs] == ["yes", "no", "not known"]


def test_settings_are_the_usual_ones_and_what_a_row_has_of_its_own(text: str) -> None:
    made = text[text.index("## How this was made") :]
    usual = made.partition("Unless its row says otherwise: ")[2].partition(".\n")[0].split(", ")
    assert {"arch resnet50", "epochs 2", "optimizer sgd"} <= set(usual)
    rows = dict(
        [cell.strip() for cell in line.split("|")[1:3]]
        for line in made.splitlines()
        if line.startswith(("| vgg16", "| resnet50"))
    )
    assert list(rows) == list(load(ROOT / FILE).runs)
    long, adam = rows["resnet50-sgd-random-long"], rows["vgg16-adam-random"].split(", ")
    assert "epochs 50" in long.split(", ")
    # What only one of the optimizers has is in the rows of all that have it.
    assert "momentum 0.9" in long.split(", ")
    assert {"arch vgg16", "optimizer adam"} <= set(adam)
    assert not [setting for setting in adam if setting.startswith("momentum")]
    assert any(setting.startswith("beta_1") for setting in adam)


def test_every_picture_is_there(study: Path, text: str) -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(pictures) == len(set(pictures)) == 13
    for picture in pictures:
        assert (study / project.REPORTS / picture).is_file()


def test_only_the_first_seeds_of_a_row_have_pictures_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PICTURED_SEEDS", 1)
    made_up.reported(tmp_path, made_up.small, {}, drawn=())
    assert {path.name for path in tmp_path.glob("reports/runs/*/*")} == {"seed-0"}


def test_page_needs_nothing_but_itself(study: Path) -> None:
    html = (study / report.PAGE).read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', html)
    # The figures, and the digits that the comparison shows.
    assert len(sources) == 13 + 1
    assert all(source.startswith("data:image/") for source in sources)
    # No request to the network, of the script neither. The name of SVG is no address to ask.
    assert set(re.findall(r"https?://[^\s\"<]+", html)) <= {"http://www.w3.org/2000/svg"}
    asking = ("url(", "@import", "import(", "fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon")
    assert not [word for word in asking if word in html]
    mistakes = study / "reports/runs/vgg16-sgd-random/seed-0/mistakes.png"
    assert base64.b64encode(mistakes.read_bytes()).decode() in html
    assert html.count("<table>") == 8


def _without_probabilities(folder: Path, rows: str, drawn: Collection[str] | None = None) -> str:
    """The report of `folder`, made again when those of the `rows` (a pattern) are gone."""
    for path in list(folder.glob(f"data/probabilities/{rows}/probabilities.npy")):
        path.unlink()
    made_up.report_again(folder, drawn)
    return (folder / report.TEXT).read_text()


def test_comparisons_need_only_what_git_keeps(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A clone has the predictions, not the probabilities, which are DVC's."""
    folder = made_up.reported(tmp_path_factory.mktemp("clone"), made_up.small, {}, drawn=())
    again = _without_probabilities(folder, "*", drawn=())
    for first, last in (
        ("## The study's claims", "## Results"),
        ("## Paired tests", "## The networks"),
    ):
        assert (
            again[again.index(first) : again.index(last)]
            == (text[text.index(first) : text.index(last)])
        )


def test_only_calibration_needs_more_than_git_keeps(
    study: Path, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = made_up.reported(tmp_path_factory.mktemp("partly"), made_up.small, {}, drawn=())
    (folder / report.RESULTS_TABLE).unlink()
    drawn = ("confusion", "class_accuracy")
    again = _without_probabilities(folder, "vgg16-sgd-random", drawn)
    for name in drawn:
        figure = (folder / project.REPORTS / f"{name}.png").read_bytes()
        assert figure == (study / project.REPORTS / f"{name}.png").read_bytes()
    calibration = again[again.index("## Calibration") : again.index("## Paired tests")]
    assert "| vgg16-adam-random   |" in calibration
    assert "| vgg16-sgd-random" not in calibration
    assert "Their probabilities are not at hand here: vgg16-sgd-random." in calibration
    assert "not at hand" not in text


def test_an_ece_that_cannot_be_computed_again_is_kept(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As long as the row was not trained or tested anew."""
    folder = made_up.reported(tmp_path_factory.mktemp("kept"), made_up.small, {}, drawn=())
    before = pd.read_csv(folder / report.RESULTS_TABLE).set_index("run")
    changed = folder / "metrics/vgg16-adam-random/test.json"
    files.write_json(changed, {"loss": 0.29, "accuracy": 0.985})
    again = _without_probabilities(folder, "*", drawn=())
    after = pd.read_csv(folder / report.RESULTS_TABLE).set_index("run")
    assert after.loc["vgg16-sgd-random", "ece"] == before.loc["vgg16-sgd-random", "ece"]
    assert pd.isna(after.loc["vgg16-adam-random", "ece"])
    assert "not at hand here: vgg16-adam-random." in again
    kept = "earlier report on the same tests: vgg16-sgd-random, resnet50-sgd-random. "
    assert f"{kept}So is the figure." in again
    assert "reliability.png" in again


def test_a_reliability_figure_names_the_rows_that_it_lacks(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = made_up.reported(tmp_path_factory.mktemp("mixed"), made_up.small, {})
    again = _without_probabilities(folder, "vgg16-sgd-random")
    assert "on the same tests: vgg16-sgd-random. The figure lacks them." in again


def test_figures_that_a_report_does_not_show_go(tmp_path_factory: pytest.TempPathFactory) -> None:
    """DVC leaves `reports` as it is, so that what cannot be computed again can be kept."""
    folder = made_up.reported(tmp_path_factory.mktemp("shorter"), made_up.small, {})
    before = {path.name for path in (folder / project.REPORTS).iterdir()}
    for suffix in ("png", "svg"):
        (folder / project.REPORTS / f"earlier.{suffix}").touch()
    _without_probabilities(folder, "*")
    assert {path.name for path in (folder / project.REPORTS).iterdir()} == before


def test_combined_history_holds_means_over_seeds(study: Path) -> None:
    history = pd.read_csv(study / live_curves.TABLE)
    adam = history[history["run"] == "vgg16-adam-random"]
    assert adam["epoch"].tolist() == [1, 2]
    assert adam["val_accuracy"].tolist() == pytest.approx([0.965, 0.975])


def test_terminal_table_is_narrow_and_names_what_is_missing(study: Path) -> None:
    lines = tables.terminal_table(study / report.RESULTS_TABLE).splitlines()
    assert max(map(len, lines[:-1])) <= 140
    headings = [cell.strip() for cell in lines[0].split("|")[1:-1]]
    assert headings == ["run", "epochs", "train acc", "val acc", "test acc", "s/epoch", "note"]
    assert lines[-1] == f"not run yet: {', '.join(made_up.MISSING)}"


def test_nothing_finished_is_a_report_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / FILE).write_text((ROOT / FILE).read_text())
    monkeypatch.chdir(tmp_path)
    report.main()
    text = (tmp_path / report.TEXT).read_text()
    assert f"0 of {len(load().runs)} runs are finished." in text
    assert "**not run**" in text


def test_markup_in_a_title_stays_text(tmp_path: Path) -> None:
    html = page.render("A <b> & c", "# A <script>alert(1)</script>\n", tmp_path)
    assert "<title>A &lt;b&gt; &amp; c</title>" in html
    assert "<script" not in html


def test_a_cell_of_a_page_has_its_columns_heading_with_it(tmp_path: Path) -> None:
    rows = "|:--|:--|:--|\n| 1 | x_y |  |\n| 2 | `z` | **w** |\n"
    html = page.render("A", '| | one_two | a "b" & <c> |\n' + rows, tmp_path)
    labels = re.findall(r'<td [^>]*data-label="([^"]*)"', html)
    assert labels == 2 * ["", "one_two", "a &quot;b&quot; &amp; &lt;c&gt;"]
    assert ">one_<wbr>two</th>" in html
    assert ">x_y</td>" in html


# --- beside what the study stored


OWN = ("## The study's own curves", "thin black lines", "## What the study's files suggest")


@pytest.fixture
def full_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take what is `DONE` for trainings as long and as large as the study's."""
    monkeypatch.setattr(histories, "STUDY_SCALE", Scale(epochs=2, images=3200))


def test_the_studys_curves_are_shown_only_at_its_scale(text: str, study: Path) -> None:
    assert not any(words in text for words in OWN)
    assert "hist" not in made_up.words(study, "curves")


def test_the_studys_curves_stand_beside_rows_at_its_scale(full_scale: None, tmp_path: Path) -> None:
    folder = made_up.reported(tmp_path, made_up.small, {}, drawn=["curves"])
    text = (folder / report.TEXT).read_text()
    section = text[text.index(OWN[0]) : text.index("## Convergence")]
    assert text.index("## Learning curves") < text.index(OWN[1]) < text.index(OWN[0])
    rows = [line.split("|")[1:5] for line in section.splitlines() if line.startswith("| `hist")]
    # One of ResNet50's two seeds diverged before its first epoch was over.
    assert [(row[0].strip(), row[3].strip()) for row in rows] == [
        ("`hist.p`", "vgg16-sgd-random"),
        ("`hist_vgg_sgd.p`", "vgg16-sgd-random"),
        ("`hist_res.p`", "resnet50-sgd-random"),
        ("`hist_res_adam.p`", "resnet50-sgd-random"),
        ("`hist_res_sgd_weighted.p`", "resnet50-sgd-random"),
    ]
    assert "deepnets reproduce" in section
    assert "the study's hist.p" in made_up.words(folder, "curves")


def test_the_studys_curves_are_no_part_of_another_studys_report(
    full_scale: None, tmp_path: Path
) -> None:
    def other(params: dict[str, Any]) -> None:
        made_up.small(params)
        params["report"]["questions"] = QUESTIONS[:1]

    text = (made_up.reported(tmp_path, other, {}, drawn=()) / report.TEXT).read_text()
    assert not any(words in text for words in OWN)


def test_the_studys_numbers_are_shown_beside_its_data_alone(
    full_scale: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the rows are called: here as the study's are."""
    monkeypatch.setattr(published, "TEST_DATA", 64 * "0")
    folder = made_up.reported(tmp_path, made_up.small, {}, drawn=["curves", "comparison"])
    text = (folder / report.TEXT).read_text()
    table = pd.read_csv(folder / report.RESULTS_TABLE)
    assert table.filter(like="study_").isna().all(axis=None)
    assert table["test_accuracy"].notna().sum() == len(made_up.DONE)
    headings = [line for line in _results(text, "VGG-16").splitlines() if "test acc" in line]
    assert "study" not in headings[0]
    shown = ("## The study's claims", "Reduced scale", *OWN)
    assert not any(words in text for words in shown)
    assert "the study" not in made_up.words(folder, "comparison")
    assert "the study" not in made_up.words(folder, "curves")


# --- a study with questions


QUESTIONS = [
    {
        "question": "Is Adam *better*?",
        "ahead": [{"row": "vgg16-adam-random", "than": "vgg16-sgd-random"}],
        "known": "One seed collapsed.",
    },
    {
        "question": "Is SGD worse in ResNet50?",
        "ahead": [{"row": "resnet50-adam-random", "than": "resnet50-sgd-random"}],
        "diagnosed": ["resnet50-sgd-random"],
    },
]
GOAL = {
    "question": "Is it above?",
    "rows": ["vgg16-adam-random", "vgg16-adam-imagenet"],
    "above": 0.9969,
}


def _asking(params: dict[str, Any]) -> None:
    made_up.small(params)
    params["report"] |= {"questions": QUESTIONS, "goal": GOAL}
    params["diagnose"]["runs"] = ["resnet50-sgd-random"]
    params["runs"]["resnet50-adam-random"]["input_channels"] = 1


def _moment(accuracy: float) -> dict[str, Any]:
    layer = {"kind": "Conv2D", "activation": 0.5, "gradient": 0.001, "weight": 0.1}
    return {
        "layers": [{"name": name, **layer} for name in ("a", "b", "logits")],
        "batch_norms": [{"name": "n", "mean_gap": 2.5, "deviation_ratio": 0.5}],
        "batch": {"accuracy": accuracy},
        "moving": {"accuracy": 0.1},
    }


DRAWN = ("question-1", "question-2", "goal", "learning", "flow", "norms")


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study with questions, a pilot and what the rules can do, and its report."""
    moments = {"start": _moment(0.1), "after 100 steps": _moment(0.9), "end": _moment(0.95)}
    diagnosis = {"run": "resnet50-sgd-random", "images": 128, "seeds": {"0": moments}}
    folder = tmp_path_factory.mktemp("asked")
    for source, name in ((PILOT, project.PILOT), (POWER, project.POWER)):
        files.write_text(folder / name, source)
    files.write_text(folder / report.PAIRS_TABLE, "of an earlier report")
    return made_up.reported(folder, _asking, {"resnet50-sgd-random": diagnosis}, DRAWN)


PILOT = """row,seed,test_accuracy,val_accuracy
vgg16-adam-random,7,0.9812,0.98
vgg16-adam-random,8,0.9912,0.98
"""

POWER = """asks,scenario,right,seeds,yes,no,wrong,needed
accuracy,ahead by 1 points,yes,3,0.0,0.0,0.0,7
accuracy,ahead by 1 points,yes,5,0.25,0.125,0.0011,7
list,all alike,,5,0.0003,0.0924,0.0123,
"""


@pytest.fixture(scope="module")
def asked(asking: Path) -> str:
    return (asking / report.TEXT).read_text()


def test_questions_take_the_place_of_the_claims(asking: Path, asked: str, text: str) -> None:
    assert "## The study's claims" not in asked
    assert "## The questions" not in text
    assert "## What flows through the layers" not in text
    assert asked.index("## The questions") < asked.index("## By which rules")
    assert asked.index("## By which rules") < asked.index("## Results")
    for name in DRAWN:
        assert (asking / project.REPORTS / f"{name}.png").stat().st_size > 4_000
    # Of many seeds none has pictures of its own, and none is tested against another.
    assert not list((asking / project.RUN_FIGURES).glob("*/*"))
    assert not (asking / report.PAIRS_TABLE).exists()


def test_an_answer_has_its_numbers_cause_figure_and_command(asked: str) -> None:
    answer = asked[asked.index("### Is Adam") : asked.index("### Is SGD")]
    assert "### Is Adam \\*better\\*?" in answer
    assert "**Undecided.** vgg16-adam-random 0.9850 ± 0.0071 against vgg16-sgd-random" in answer
    assert "learned with 2 and 1 of 2 seeds" in answer
    assert "One seed collapsed." in answer
    assert "](question-1.png)" in answer
    assert "`deepnets grid --rows vgg16-adam-random vgg16-sgd-random`" in answer


def test_an_answer_that_lacks_a_run_says_so_and_what_is_known(asked: str) -> None:
    answer = asked[asked.index("### Is SGD") : asked.index("### Is it above?")]
    assert "**Not run.** To be tested with every seed: resnet50-adam-random" in answer
    assert "After 100 steps, resnet50-sgd-random gets 0.90 of 128 validation images" in answer


def test_a_goal_is_answered_by_the_rows_that_are_there(asking: Path, asked: str) -> None:
    answer = asked[asked.index("### Is it above?") : asked.index("## By which rules")]
    assert "**Undecided.** vgg16-adam-random 0.9850" in answer
    assert "To be tested with every seed: vgg16-adam-imagenet." in answer
    assert "(vgg16-adam-imagenet)" in made_up.words(asking, "goal")


def test_the_rules_the_pilot_and_what_the_rules_can_do_are_told(asking: Path, asked: str) -> None:
    section = asked[asked.index("## By which rules") : asked.index("## What flows")]
    for rule in questions.rules(load(asking / FILE).report, 2):
        assert f"- {rule}" in section
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    assert ["vgg16-adam-random", "0.9812, 0.9912"] in lines
    assert [
        "accuracy",
        "ahead by 1 points",
        "yes",
        "0.00, 0.00",
        "0.25, 0.12",
        "0.0011",
        "7",
    ] in lines
    assert ["all alike", "5", "0.00", "0.09", "0.0123"] in lines
    table = pd.read_csv(asking / report.ANSWERS_TABLE)
    assert table[["row", "than", "says"]].values.tolist() == [
        ["vgg16-adam-random", "vgg16-sgd-random", "undecided"]
    ]
    assert "p of yes" in table


def test_rows_alike_in_optimizer_and_weights_have_their_names(tmp_path: Path) -> None:
    def twins(params: dict[str, Any]) -> None:
        made_up.small(params)
        params["runs"]["vgg16-sgd-random"] |= {"optimizer": "adam", "dropout": 0.25}

    folder = made_up.reported(tmp_path, twins, {}, drawn=())
    vgg16 = _results((folder / report.TEXT).read_text(), "VGG-16")
    names = [line.split("|")[1].strip() for line in vgg16.splitlines() if line.startswith("|")]
    assert {"run", "vgg16-adam-random", "vgg16-sgd-random"} <= set(names)


def test_a_variant_is_not_set_beside_the_study() -> None:
    plain = load(ROOT / FILE).run_params("resnet50-sgd-random", 0)
    assert published.find_row(plain) is not None
    for changes in (
        {"input_channels": 1},
        {"upsampling": 2},
        {"stem": "small"},
        {"stages": 3},
        {"zero_gamma": True},
        {"label_smoothing": 0.1},
        {"decay": "cosine"},
        {"batch_norm_momentum": 0.9},
    ):
        assert published.find_row(plain.model_copy(update=changes)) is None
