"""What each command takes on the command line, and how its help says so."""

import argparse
from pathlib import Path

from deepnets.config import sections

# command -> help, name of its argument if it takes one, whether it needs Keras
STAGES: dict[str, tuple[str, str | None, bool]] = {
    "check": ("check params.yaml", None, False),
    "download": ("fetch the digits, checked by digest", None, False),
    "preprocess": ("resize, tile to RGB, split off the validation images", None, False),
    "initialize": ("write the starting weights ARCH-WEIGHTS", "START", True),
    "train": ("train one run of params.yaml; resumes where it stopped", "RUN", True),
    "diagnose": ("look into a trained run's layers", "RUN", True),
    "evaluate": ("score a trained run on the test images", "RUN", True),
    "report": ("put all finished runs side by side", None, False),
    "publish": ("send to MLflow whatever it lacks", None, False),
}

# What `reproduce` and `diff` take for a run.
_RUN_NAMES = (
    "A run is named as in the study at hand (vgg16-sgd-random), as STUDY:RUN with the folder of "
    "another study (studies/tour:vgg16-sgd-he), by its id in MLflow, or by a registered model "
    "(models:/NAME/VERSION, models:/NAME@ALIAS)."
)


def _count(word: str) -> int:
    if not word.isdecimal() or word.strip("0") == "":
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, received {word!r}")
    return int(word)


def parser() -> argparse.ArgumentParser:
    """What the command line takes; its help is the commands' own."""
    root = argparse.ArgumentParser(
        prog="deepnets",
        description="Deeper Networks For Image Classification, reproduced. Stages run in the "
        "folder of their study (the project's root, or studies/...) and read its params.yaml; "
        "`dvc repro` runs them all in order.",
    )
    root.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    commands = root.add_subparsers(dest="command", metavar="COMMAND")
    for command, (text, argument, _) in STAGES.items():
        sentence = f"{text[:1].upper()}{text[1:]}."
        stage = commands.add_parser(command, help=text, description=sentence)
        if argument:
            stage.add_argument("name", metavar=argument, help="as named in params.yaml")
    single = commands.add_parser(
        "run",
        help="train and evaluate one free-form run, outside the grid",
        description="Train and evaluate one run with parameters of your choice. What is not "
        "given comes from params.yaml. Everything it writes goes to single/NAME and to MLflow.",
    )
    for key, text in sections.options().items():
        names = dict.fromkeys([f"--{key.replace('_', '-')}", f"--{key}"])
        single.add_argument(*names, dest=key, metavar="VALUE", help=text)
    repro = commands.add_parser(
        "repro",
        help="`dvc repro` for a study, then its result table",
        description="Rebuild what is out of date in a study, and show its results.",
    )
    repro.add_argument("study", nargs="?", default=".", help="its folder (default: this one)")
    grid = commands.add_parser(
        "grid",
        help="train and test what is due in a study, many trainings at a time",
        description="Train and test whatever is due in a study, many trainings (a row and a seed "
        "each) at a time: with one core each, or side by side on GPUs. Ends with the same files "
        "as `dvc repro`, which afterwards trains nothing. Ctrl-C stops all of them; the same "
        "command goes on.",
        epilog="Each training's log is in trainings/ROW/seed-N/log.txt. Exit status: 0, 1 if a "
        "training failed (the others go on), 3 if none failed but one has diverged, 130 after "
        "Ctrl-C.",
    )
    grid.add_argument("study", nargs="?", default=".", help="its folder (default: this one)")
    grid.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="ROW",
        help="only these, by name or pattern: 'vgg16-*' (default: all)",
    )
    grid.add_argument(
        "--seeds", nargs="+", default=[], metavar="N", help="only these of the study's"
    )
    grid.add_argument(
        "--jobs",
        type=_count,
        metavar="N",
        help="how many at a time (default: a core each, or what the GPUs' memory carries)",
    )
    grid.add_argument(
        "--on",
        choices=("local", "ray"),
        default="local",
        help="this machine (default), or a Ray cluster: see docs/grid.md",
    )
    grid.add_argument(
        "--address", help="of the cluster, for --on ray (default: the one this machine is part of)"
    )
    training = commands.add_parser(
        "training",
        help="train and test one seed of a row by itself, beside others",
        description="Train and test one seed of a row in trainings/RUN/seed-N, beside others: "
        "what `deepnets grid` starts, and a job of a cluster can. `deepnets adopt trainings` makes "
        "rows of what has ended.",
    )
    training.add_argument("name", metavar="RUN", help="as named in params.yaml")
    training.add_argument(
        "seed",
        metavar="SEED",
        nargs="?",
        type=int,
        help="one of train.seed there (default: those that standard input names, a line each, "
        "each with a log of its own)",
    )
    predict = commands.add_parser(
        "predict",
        help="name the digits in pictures, by the champion or another model",
        description="Name the digit in each picture: PNG or JPEG, of any size, dark on light or "
        "light on dark, one digit a picture. It is cropped, scaled and centred as the digits of "
        "MNIST were. Exits with 1 if a picture could not be used; the others are predicted.",
    )
    predict.add_argument(
        "pictures",
        nargs="*",
        metavar="IMAGE",
        help="a file, or a folder of *.png, *.jpg, *.jpeg; - or nothing: standard input",
    )
    predict.add_argument(
        "--model",
        default="champion",
        metavar="champion|VERSION|PATH",
        help="the best run of this folder's study by validation accuracy (default), a version of "
        "its registered model, a .keras file, or MLflow's models:/NAME@champion of another study",
    )
    predict.add_argument("--json", action="store_true", help="print all probabilities, as JSON")
    reproduce = commands.add_parser(
        "reproduce",
        help="train a run again from its record, and say whether it is the same to the bit",
        description="Train and evaluate a run again, with the code of its commit in a checkout "
        "aside, and compare: starting weights, history, final weights, predictions, test metrics.",
        epilog=f"{_RUN_NAMES} Exit status: 0 bit-identical, 3 equal within the tolerance known for "
        "what differs, 4 different, 1 a failure. Your working tree is not touched, MLflow gets "
        "nothing; the checkout, with what it writes, is in TMPDIR and goes at the end.",
    )
    reproduce.add_argument("run", metavar="RUN", help="name or id of a run that was trained")
    reproduce.add_argument(
        "--here",
        action="store_true",
        help="use the code and params.yaml of the working tree as it is, not those of the run",
    )
    reproduce.add_argument(
        "--seed", type=int, help="of a run with several (default: each, one after the other)"
    )
    adopt = commands.add_parser(
        "adopt",
        help="take trainings that another machine or clone has made over into this study",
        description="Take over every training below SOURCE that is one of this study's: by its "
        "parameters, seed and data, whatever it is called there. Its files are checked against "
        "each other first, the test metrics computed anew. Models come along where they are "
        "there, and then `dvc repro` does not train these rows; without them tables, figures, "
        "verdicts and MLflow are complete all the same. Ends with the report.",
        epilog="What does not belong is left alone, a line each; nothing that was trained here is "
        "overwritten, and taking the same twice changes nothing. Exit status 1 where a training "
        "was refused, or nothing belongs here.",
    )
    adopt.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="SOURCE",
        help="a study's folder, there or here, or a folder or a tar archive with what was kept of "
        "metrics/ (and of models/) somewhere below it",
    )
    adopt.add_argument(
        "--replace",
        action="store_true",
        help="take a training also where another one of its row and seed is here",
    )
    diff = commands.add_parser(
        "diff",
        help="two runs side by side: parameters, code, environment, curves, predictions",
        description="Show two trained runs side by side, on which test images they disagree, and "
        "what explains it; draw it, too.",
        epilog=_RUN_NAMES,
    )
    diff.add_argument("run_a", metavar="RUN_A", help="name or id of a run that was trained")
    diff.add_argument("run_b", metavar="RUN_B", help="likewise")
    diff.add_argument("--seed", type=int, help="of runs with several (default: the first of each)")
    diff.add_argument(
        "--figure",
        type=Path,
        metavar="STEM",
        help="write the figure to STEM.png (default: diffs/RUN_A--RUN_B)",
    )
    for subparser in commands.choices.values():
        subparser.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return root
