"""What `dvc plots show` finds of trainings that are still going on."""

from pathlib import Path

import pandas as pd
import pytest

from deepnets.reporting import live_curves
from deepnets.reporting.live_curves import COLUMNS, TABLE, LiveCurve

EPOCH = dict.fromkeys(COLUMNS[2:], 0.1) | {"another": 1.0}


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _curves() -> dict[str, list[int]]:
    return {
        str(run): rows["epoch"].tolist()
        for run, rows in pd.read_csv(TABLE).groupby("run", sort=False)
    }


def test_a_curve_grows_beside_the_others_and_takes_its_own_earlier_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    TABLE.parent.mkdir()
    written = "finished,1,0.25,0.9,0.30000000000000004,0.8,0.01\n"
    TABLE.write_text(f"{','.join(COLUMNS)}\n{written}again,1,1,1,1,1,1\nagain,2,1,1,1,1,1\n")
    monkeypatch.setattr(live_curves, "_INTERVAL", 0.0)
    again, other = LiveCurve("again"), LiveCurve("row, seed 1")
    again.show([{"epoch": 1, **EPOCH}])
    other.show([{"epoch": 1, **EPOCH}])
    assert _curves() == {"finished": [1], "again": [1], "row, seed 1": [1]}
    other.show([{"epoch": epoch, **EPOCH} for epoch in (1, 2)])
    assert _curves()["row, seed 1"] == [1, 2]
    assert written in TABLE.read_text()


def test_epochs_that_take_no_time_are_shown_now_and_then_and_at_the_end() -> None:
    curve = LiveCurve("row")
    curve.show([{"epoch": 1, **EPOCH}])
    curve.show([{"epoch": epoch, **EPOCH} for epoch in (1, 2)])
    assert _curves() == {"row": [1]}
    curve.show([{"epoch": epoch, **EPOCH} for epoch in (1, 2, 3)], at_once=True)
    assert _curves() == {"row": [1, 2, 3]}
    live_curves.write("run,epoch\nof the report,7\n")
    assert _curves() == {"of the report": [7]}


def test_no_picture_is_worth_a_training(study: Path) -> None:
    (study / TABLE.parent).write_text("a file where the folder should be")
    LiveCurve("row").show([{"epoch": 1, **EPOCH}])
    TABLE.parent.unlink()
    TABLE.parent.mkdir()
    TABLE.write_text("something,else\n1,2\n")
    LiveCurve("row").show([{"epoch": 1, **EPOCH}])
    assert _curves() == {"row": [1]}
    with TABLE.open("a") as file:
        file.write("a,line,with,more,fields,than,the,table,has\n")
    LiveCurve("other").show([{"epoch": 1, **EPOCH}])
