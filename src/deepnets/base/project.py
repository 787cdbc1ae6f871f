"""Where things are: the project's root, the study at hand, and its files.

A study is the folder with params.yaml and dvc.yaml that a stage runs in; all paths of a study
are relative to it. The MLflow store and the code are the project's, found from its root.
"""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

CHECKED = Path("data/params-checked.txt")
RESOLVED = Path("data/params")
RAW = Path("data/raw")
IMAGENET = Path("data/imagenet")
PROCESSED = Path("data/processed")
STARTS = Path("data/weights")
PROBABILITIES = Path("data/probabilities")
REPORTS = Path("reports")
# Those of each training, in REPORTS.
RUN_FIGURES = REPORTS / "runs"
# Of a study with questions: the accuracies that were known before its rules, and what these can do.
PILOT = Path("metrics/pilot.csv")
POWER = Path("metrics/power.csv")
# What JAX has compiled for a GPU, in the root.
COMPILED = Path(".cache/jax")
# Where in MLflow each experiment was published, beside the store.
PUBLISHED = Path(".cache/mlflow")

# Digits 0 to 9.
CLASSES = 10

# What MLflow takes for a service where it would take any other word for a folder.
_SERVICES = ("databricks", "databricks-uc", "uc")


def split_files(split: str) -> tuple[Path, Path]:
    """Processed images and labels of `split`: train, validation or test."""
    return PROCESSED / f"{split}_images.npy", PROCESSED / f"{split}_labels.npy"


def find_root(start: Path | None = None) -> Path | None:
    """The nearest folder at or above `start` (default: here) that holds the whole project."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "MLproject").is_file() and (folder / "src" / "deepnets").is_dir():
            return folder
    return None


def root() -> Path:
    """The project's root; where there is none (a copied study), the folder we are in."""
    return find_root() or Path.cwd()


def store_root() -> Path:
    """The folder of the MLflow store.

    `dvc exp run --temp` and `--queue` work in a copy below .dvc/tmp/exps that is deleted
    afterwards, so a store in there would be lost: they log to the project that was copied.
    """
    folder = root()
    for parent in folder.parents:
        if parent.name == "exps" and parent.parent.name == "tmp":
            return find_root(parent) or folder
    return folder


def tracking_uri() -> str:
    """The MLflow store: MLFLOW_TRACKING_URI, else mlflow.db in the project's root."""
    return store_uri(os.environ.get("MLFLOW_TRACKING_URI", "").strip() or "sqlite:///mlflow.db")


def store_uri(uri: str) -> str:
    """`uri`, where a relative path counts from the root: stages run in the folders of studies."""
    uri = re.sub("^file:(?=[^/])", "", uri)
    prefix, path = ("sqlite:///", uri[10:]) if uri.startswith("sqlite:///") else ("", uri)
    if path.startswith("/") or uri in _SERVICES or (not prefix and ":" in uri):
        return uri
    return f"{prefix}{store_root() / path}"


def hide_credentials(url: str) -> str:
    """`url` for messages: whatever stands before its last @ may be a name or a password.

    Works as well on a sentence with URLs in it, and on what was meant as one (`http:/NAME@HOST`).
    """
    return re.sub(r"(\S*?://)?\S*@", r"\1***@", url)


def public_uri() -> str:
    """The tracking URI without a user's name or password, for messages."""
    return hide_credentials(tracking_uri())


@dataclass(frozen=True)
class RunFiles:
    """The files of one run: a row of the grid, or a free-form run in a folder of its own.

    Files in `metrics_dir` hold all seeds of the run, one after the other. Models, starting weights,
    figures and checkpoints are those of one seed each.
    """

    name: str
    model_dir: Path
    metrics_dir: Path
    start_dir: Path
    probabilities_dir: Path
    figures_dir: Path

    def start(self, seed: int) -> Path:
        return start_file(self.start_dir, seed)

    def model(self, seed: int) -> Path:
        return self.model_dir / f"seed-{seed}.keras"

    def best_model(self, seed: int) -> Path:
        """That of the best epoch, beside that of the last one, for a run that keeps both."""
        return self.model_dir / f"seed-{seed}-best.keras"

    def figures(self, seed: int) -> Path:
        return self.figures_dir / f"seed-{seed}"

    def checkpoints(self, seed: int) -> Path:
        return Path("checkpoints") / self.name / f"seed-{seed}"

    def checkpoints_of(self, seed: int, fingerprint: str) -> Path:
        """Those of the one training with that fingerprint."""
        return self.checkpoints(seed) / fingerprint[:16]

    @property
    def history(self) -> Path:
        return self.metrics_dir / "history.csv"

    @property
    def timing(self) -> Path:
        return self.metrics_dir / "timing.csv"

    @property
    def train(self) -> Path:
        return self.metrics_dir / "train.json"

    @property
    def provenance(self) -> Path:
        return self.metrics_dir / "provenance.json"

    @property
    def architecture(self) -> Path:
        return self.metrics_dir / "architecture.json"

    @property
    def diagnosis(self) -> Path:
        return self.metrics_dir / "diagnosis.json"

    @property
    def test(self) -> Path:
        return self.metrics_dir / "test.json"

    @property
    def predictions(self) -> Path:
        return self.metrics_dir / "predictions.csv.gz"

    @property
    def plain_predictions(self) -> Path:
        """What earlier versions wrote in the place of `predictions`: the same, not compressed."""
        return self.predictions.with_suffix("")

    @property
    def calibration(self) -> Path:
        return self.metrics_dir / "calibration.json"

    @property
    def probabilities(self) -> Path:
        return self.probabilities_dir / "probabilities.npy"


def grid_run(name: str, start: str) -> RunFiles:
    """Files of the row `name` of the study's grid, which starts from the weights `start`."""
    return RunFiles(
        name,
        Path("models") / name,
        Path("metrics") / name,
        STARTS / start,
        PROBABILITIES / name,
        RUN_FIGURES / name,
    )


def single_run(name: str) -> RunFiles:
    """Files of a free-form run: everything in single/NAME."""
    folder = Path("single") / name
    return RunFiles(name, folder, folder, folder, folder, folder / "figures")


def run_at(folder: Path) -> RunFiles:
    """Files of the run whose numbers lie in `folder`, of whatever study, version or machine.

    A row of a study has its probabilities and figures elsewhere in the study: what is in `metrics`
    is numbers, and git's. Free-form runs, copies and earlier versions have them beside these.
    """
    beside = RunFiles(folder.name, folder, folder, folder, folder, folder / "figures")
    if folder.parent.name != "metrics":
        return beside
    study, row = folder.parents[1], beside
    if (study / PROBABILITIES / folder.name / row.probabilities.name).is_file():
        row = replace(row, probabilities_dir=study / PROBABILITIES / folder.name)
    if (study / RUN_FIGURES / folder.name).is_dir():
        row = replace(row, figures_dir=study / RUN_FIGURES / folder.name)
    return row


def start_file(folder: Path, seed: int) -> Path:
    """Starting weights drawn with `seed`, in the folder of their ARCH-WEIGHTS."""
    return folder / f"seed-{seed}.weights.h5"
