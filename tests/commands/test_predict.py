"""`deepnets predict`: pictures in, labels out, by a model that has learnt from real digits."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import handwriting
from deepnets.__main__ import main
from deepnets.base import files
from project import ROOT, environment
from studies import FIRST, SECOND, Study


def _draw(path: Path, digit: int, paper: str = "white", height: int = 120) -> Path:
    rng = np.random.default_rng(digit)
    mask = handwriting.written(digit, "pen", height, rng)
    handwriting.PAPERS[paper](mask, rng).save(path)
    return path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `deepnets predict` in this process; returns status, standard output and error."""

    def said(*arguments: object) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        status = main(["predict", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err.splitlines()

    return said


def test_digits_in_many_hands_sizes_and_papers(model: Path, tmp_path: Path, said: Any) -> None:
    handwriting.main(tmp_path / "drawn", 90)
    status, out, err = said(tmp_path / "drawn", "--model", model, "--json")
    assert (status, err) == (0, [])
    answers = json.loads(out)["predictions"]
    assert len(answers) == 90
    right = [Path(answer["picture"]).name.startswith(str(answer["label"])) for answer in answers]
    assert sum(right) >= 63  # what a linear classifier can; upside down it would be 20


def test_a_table_for_people_and_json_for_machines(model: Path, tmp_path: Path, said: Any) -> None:
    names = [_draw(tmp_path / f"{digit}.png", digit) for digit in (1, 0)]
    status, out, err = said(*names, "--model", model)
    assert (status, err) == (0, [])
    lines = out.splitlines()
    assert lines[0].split() == ["picture", "digit", "probability"]
    for line, name, digit in zip(lines[2:], names, "10", strict=False):
        assert line.split()[:2] == [str(name), digit]
    assert lines[-1] == f"by seed-0 ({model})"

    _, out, _ = said(*names, "--model", model, "--json")
    document = json.loads(out)
    assert document["model"]["sha256"] == files.file_digest(model)
    for answer, line in zip(document["predictions"], lines[2:], strict=False):
        assert len(answer["probabilities"]) == 10
        assert sum(answer["probabilities"]) == pytest.approx(1)
        assert answer["probability"] == max(answer["probabilities"])
        assert answer["probabilities"].index(answer["probability"]) == answer["label"]
        assert f"{answer['probability']:.4f}" == line.split()[2]


def test_good_pictures_are_predicted_beside_bad_ones(
    model: Path, tmp_path: Path, said: Any
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    _draw(folder / "b.PNG", 1)
    _draw(folder / "d.jpeg", 0, "photo")
    (folder / "a.png").write_bytes(b"nonsense")
    (folder / "notes.txt").write_text("not asked for")
    (folder / ".hidden.png").write_bytes(b"")
    Image.new("L", (50, 50), 9).save(folder / "c.jpg")
    empty = tmp_path / "empty"
    empty.mkdir()
    odd = tmp_path / "\x1b[31m\n.png"
    status, out, err = said(folder, empty, odd, "--model", model)
    assert status == 1
    assert [line.split()[:2] for line in out.splitlines()[2:4]] == [
        [str(folder / "b.PNG"), "1"],
        [str(folder / "d.jpeg"), "0"],
    ]
    assert [line.removeprefix("deepnets predict: ") for line in err] == [
        f"{folder}/a.png is no PNG or JPEG picture: expected one of these formats",
        f"{folder}/c.jpg shows no digit: expected one that stands out from its background; "
        "received one even surface",
        f"{empty} holds no pictures: expected *.png, *.jpg or *.jpeg",
        f"{tmp_path}/\\x1b[31m\\n.png cannot be read (No such file or directory): check its name "
        "and that you may read it",
        "4 of 6 pictures could not be used, see above; the others are predicted",
    ]
    _, out, _ = said(folder, "--model", model, "--json")
    answers = json.loads(out)["predictions"]
    assert ["error" in answer for answer in answers] == [True, False, True, False]


@pytest.mark.parametrize("dash", [["-"], []])
def test_standard_input(
    model: Path, tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch, dash: list[str]
) -> None:
    content = _draw(tmp_path / "one.png", 1, "blue").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    status, out, _ = said(*dash, "--model", model)
    assert status == 0
    assert out.splitlines()[2].split()[:3] == ["standard", "input", "1"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    status, out, err = said(*dash, "--model", model)
    assert (status, out) == (1, "")
    empty = "standard input is empty: expected a PNG or JPEG picture"
    assert err == [f"deepnets predict: {empty}"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    status, out, _ = said(*dash, "--model", model, "--json")
    assert status == 1
    (answer,) = json.loads(out)["predictions"]
    assert answer == {
        "picture": "standard input",
        "error": empty.removeprefix("standard input "),
    }


def test_mistakes_are_found_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    program = (
        "import json, sys; from deepnets.__main__ import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    status = main(['predict', *arguments])\n"
        "    print(status, *{'tensorflow', 'keras', 'mlflow', 'pandas'} & set(sys.modules))"
    )
    good = str(_draw(tmp_path / "good.png", 1))
    mistakes: list[tuple[list[str], str, set[str]]] = [
        (["notes.png"], "notes.png is no PNG or JPEG picture", set()),
        (["nothing.png"], "nothing.png cannot be read", set()),
        ([good, "--model", "x.keras"], "received 'x.keras', which is no file", set()),
        ([good], "there is no MLflow store yet", {"mlflow", "pandas"}),
        ([good, "--model", "3"], "there is no MLflow store yet", {"mlflow", "pandas"}),
    ]
    result = subprocess.run(
        [sys.executable, "-c", program, json.dumps([arguments for arguments, *_ in mistakes])],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": str(ROOT / "src")},
        text=True,
        capture_output=True,
        check=True,
    )
    for (_, complaint, allowed), line, printed in zip(
        mistakes, result.stderr.splitlines(), result.stdout.splitlines(), strict=True
    ):
        assert line.startswith("deepnets predict: ")
        assert complaint in line
        status, *loaded = printed.split()
        assert status == "1"
        assert set(loaded) <= allowed
    assert not list(tmp_path.glob("*.db"))


def test_the_champion_a_version_and_the_models_of_other_studies(
    study: Study, model: Path, tmp_path: Path, said: Any
) -> None:
    picture = _draw(tmp_path / "one.png", 1)
    status, _, err = said(picture)
    assert status == 1
    assert f"no model is registered as '{study.name}'" in err[0]
    study.trained(FIRST, 0.90, model=model.read_bytes())
    study.publish()
    study.trained(SECOND, 0.95, model=model.read_bytes())
    study.publish()
    for name, run, number in (
        ("champion", SECOND, 2),
        ("1", FIRST, 1),
        (f"models:/{study.name}@champion", SECOND, 2),
        (f"models:/{study.name}/1", FIRST, 1),
    ):
        status, out, err = said(picture, "--model", name)
        assert (status, err) == (0, [])
        assert out.splitlines()[2].split()[1] == "1"
        assert out.splitlines()[-1] == (
            f"by {run} (models:/{study.name}/{number}), epoch 2 of 2, the last epoch"
        )
    for name, complaint in (
        ("7", "has no 7: expected one of its versions (1, 2) or aliases (champion)"),
        ("models:/other@champion", f"take another study's by 'models:/{study.name}@"),
    ):
        status, out, err = said(picture, "--model", name)
        assert (status, out) == (1, "")
        assert complaint in err[0]


def test_a_registered_model_that_has_changed_is_refused(
    study: Study, model: Path, tmp_path: Path, said: Any
) -> None:
    study.trained(FIRST, 0.90, model=model.read_bytes())
    study.publish()
    (kept,) = Path("mlruns").rglob("model.keras")
    kept.write_bytes(kept.read_bytes()[:-1])
    status, out, err = said(_draw(tmp_path / "one.png", 1))
    assert (status, out) == (1, "")
    assert "is not the model that was registered: expected sha256" in err[0]


def test_a_local_model_is_checked(model: Path, tmp_path: Path, said: Any) -> None:
    picture = _draw(tmp_path / "one.png", 1)
    folder = tmp_path / model.parent.name
    folder.mkdir()
    alone = folder / "seed-0.keras"
    alone.write_bytes(model.read_bytes())
    assert said(picture, "--model", alone)[0] == 0  # nothing is known of it
    files.seal(alone)
    alone.write_bytes(model.read_bytes()[:-1])
    status, _, err = said(picture, "--model", alone)
    assert status == 1
    assert "is not the file that was written there: expected sha256" in err[0]
    (folder / files.SUMS).unlink()
    status, _, err = said(picture, "--model", alone)
    assert status == 1
    assert "is not a whole Keras model" in err[0]


def test_an_unreachable_store_is_one_line_without_the_password(
    study: Study, tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:s3cret@127.0.0.1:9")
    status, _, err = said(_draw(tmp_path / "one.png", 1))
    assert status == 1
    (line,) = err
    assert "cannot be fetched from MLflow at http://***@127.0.0.1:9" in line
    assert "s3cret" not in line
