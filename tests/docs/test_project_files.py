"""Files for those who cite, contribute, test on GitHub or start a container.

They are checked as far as that goes where neither GitHub nor Docker is.
"""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from project import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _yaml(name: str) -> Any:
    return YAML(typ="safe").load(ROOT / name)


def test_the_citation_is_of_this_version_and_names_the_study() -> None:
    citation = _yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    (study,) = citation["references"]
    assert study["title"] == "Deeper Networks For Image Classification"
    assert [author["family-names"] for author in study["authors"]] == ["Hasan"]
    assert {"type", "title", "authors"} <= set(study)


def test_the_licence_is_the_one_that_is_named() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith("MIT License\n")
    assert PROJECT["license-files"] == ["LICENSE"]


def test_the_guide_for_contributors_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 50


WORKFLOW = _yaml(".github/workflows/test.yml")


def test_the_workflow_runs_the_readmes_test_command_on_pull_requests() -> None:
    assert {"push", "pull_request"} == set(WORKFLOW["on"])
    assert "make test" in [step.get("run") for step in WORKFLOW["jobs"]["test"]["steps"]]
    version = WORKFLOW["jobs"]["test"]["steps"][1]["with"]["python-version"]
    assert isinstance(version, str), "3.10 would be read as 3.1"


def test_the_workflow_may_do_no_more_than_it_must() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    jobs = WORKFLOW["jobs"]
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "test": None,
        "report": {"contents": "read", "pull-requests": "write"},
    }
    # With the right to comment, nothing that a pull request brings is run.
    assert "make" not in json.dumps(jobs["report"])
    for job in jobs.values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_the_report_is_posted_with_its_figures(tmp_path: Path) -> None:
    """The step's own command, with the folder here for the one on GitHub."""
    (step,) = (s for s in WORKFLOW["jobs"]["report"]["steps"] if "run" in s)
    edit, post = step["run"].splitlines()
    subprocess.run(
        ["bash", "-euc", edit.replace("comment.md", f"{tmp_path}/comment.md")],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "FOLDER": f"{ROOT}/reports"},
        check=True,
    )
    text = (tmp_path / "comment.md").read_text()
    figures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert figures
    assert all(figure.startswith(f"{ROOT}/reports/") for figure in figures)
    assert [figure for figure in figures if not Path(figure).is_file()] == []
    assert len(text) < 65_536, "GitHub takes no longer comment"
    assert post.startswith('gh pr comment "$NUMBER" --body-file comment.md ')
    assert {"GH_TOKEN", "GH_REPO", "NUMBER", "FOLDER"} == set(step["env"])


def test_the_image_has_the_locked_environment() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    assert re.search(r"pip install [^&]*--require-hashes -r requirements\.lock", text)
    assert text.index("COPY --chown=deepnets requirements.lock") < text.index("--require-hashes")
    (version,) = re.findall(r"^FROM python:(3\.\d+)-", text, re.MULTILINE)
    low, high = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    assert int(low) <= int(version.removeprefix("3.")) < int(high)
    # What make goes by, so that it installs nothing again.
    ready = re.search(
        r"^VENV +:= (.*)\nBIN.*\nREADY +:= \$\(VENV\)(.*)$", _makefile(), re.MULTILINE
    )
    assert ready is not None
    assert f"touch {''.join(ready.groups())}" in text


def test_nothing_that_git_ignores_goes_into_the_image() -> None:
    """But for what editors leave, and git's own folder comes along."""
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    ignored = (ROOT / ".gitignore").read_text().partition("# what editors")[0].splitlines()
    names = {line.strip("/") for line in ignored if line and not line.startswith("#")}
    assert names <= {line.removeprefix("**/") for line in kept}
    assert ".git" not in kept


def test_the_development_container_is_set_up_from_the_lock_file() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["postCreateCommand"] == "make setup"
    assert "--require-hashes -r requirements.lock" in _makefile()


def test_the_compose_file_starts_the_pages_server_and_holds_no_secret() -> None:
    services = _yaml("docs/team/compose.yaml")["services"]
    page = (ROOT / "docs/team.md").read_text().splitlines()
    (command,) = (line for line in page if line.startswith("mlflow server"))
    in_a_container = services["mlflow"]["command"].replace(" --host 0.0.0.0", "")
    assert in_a_container == command
    # What is written down here is the name of a variable of .env.
    given = re.findall(r"^(\w+)=(.*)$", (ROOT / "docs/team/example.env").read_text(), re.MULTILINE)
    for service in services.values():
        for name, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY", name):
                assert re.sub(r"^\$\{(\w+)(:\?.*)?\}$", r"\1", value) in dict(given)
    assert {value for name, value in given if re.search("PASSWORD|SECRET|KEY", name)} == {""}
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


def _makefile() -> str:
    return (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    "name",
    [
        *(".github/workflows/test.yml", "Dockerfile", "docs/running.md"),
        *("docs/team.md", "docs/team/compose.yaml"),
    ],
)
def test_what_was_not_built_or_run_says_so(name: str) -> None:
    text = " ".join((ROOT / name).read_text().replace("#", " ").split())
    assert re.search(r"[Nn]ot (built|run) where it was written|was built or started here", text)
