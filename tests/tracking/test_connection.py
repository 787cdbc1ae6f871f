"""How MLflow is used from here, whichever module of the folder comes first."""

import re
from pathlib import Path

import pytest

from modules import PACKAGE

# MLflow itself imports its plugin, and what goes along with a model.
USERS = [
    path
    for path in sorted((PACKAGE / "tracking").glob("*.py"))
    if re.search("^(import|from) mlflow", path.read_text(), re.M)
    and path.stem not in ("plugin", "raw_pixels")
]


@pytest.mark.parametrize("path", USERS, ids=lambda path: path.stem)
def test_mlflow_is_told_how_to_behave_before_it_is_imported(path: Path) -> None:
    """Whether it reports its use, for instance, is decided when it is imported."""
    text = path.read_text()
    told = "os.environ" if path.stem == "connection" else "from deepnets.tracking import connection"
    first = re.search("^(import|from) mlflow", text, re.M)
    assert first is not None
    assert told in text[: first.start()]
