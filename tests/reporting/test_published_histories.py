"""The study's stored trainings: what is in them, and which of its printed rows they end as."""

import tomllib

import pytest

from deepnets.reporting import published, published_histories
from project import ROOT

HISTORIES = {history.file: history for history in published_histories.load()}


def test_five_trainings_of_fifteen_epochs() -> None:
    assert [history.arch for history in HISTORIES.values()] == ["vgg16"] * 2 + ["resnet50"] * 3
    for history in HISTORIES.values():
        assert [row["epoch"] for row in history.rows] == list(range(1, published.EPOCHS + 1))
        for row in history.rows:
            assert set(row) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy"}
            assert 0.1 < row["accuracy"] < 1 > row["val_accuracy"] > 0.1
            assert row["loss"] > 0 < row["val_loss"]


@pytest.mark.parametrize(
    ("file", "row"),
    [
        # 0.03995 was printed as 0.0399, and 0.33451 as 0.3346.
        ("hist.p", ("vgg16", "adam", "random")),
        ("hist_vgg_sgd.p", ("vgg16", "sgd", "random")),
        # 0.9668 and 0.1235, where 0.9669 and 0.1272 were printed.
        ("hist_res.p", None),
        ("hist_res_adam.p", ("resnet50", "adam", "random")),
        ("hist_res_sgd_weighted.p", ("resnet50", "sgd", "random")),
    ],
)
def test_last_epoch_is_that_of_a_printed_row(file: str, row: published.Key | None) -> None:
    assert HISTORIES[file].printed == row


@pytest.mark.parametrize(
    ("accuracy", "loss", "found"),
    [(0.98839, 0.03708, True), (0.98855, 0.0371, False), (0.9884, 0.03725, False)],
)
def test_a_printed_row_is_met_in_accuracy_and_loss(
    accuracy: float, loss: float, found: bool
) -> None:
    row = published.find_key("vgg16", accuracy, loss)
    assert row == (("vgg16", "sgd", "random") if found else None)
    assert published.find_key("resnet50", accuracy, loss) is None


def test_their_file_is_installed_with_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    path = published_histories.PATH.relative_to(ROOT / "src" / "deepnets")
    assert path.as_posix() in declared["package-data"]["deepnets"]
    assert (ROOT / "src" / "deepnets" / path).is_file()
