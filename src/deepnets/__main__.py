"""The command line: one subcommand a stage of the pipeline, and some for whole runs.

Thin by intent: it reads arguments, prepares the framework where a command needs it, and turns
every failure into one line and an exit status.
"""

import argparse
import codecs
import errno
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from deepnets.base.errors import UserError, one_line
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failure, 2 for wrong usage.

    `reproduce` has some for its verdicts as well.
    """
    _use_this_checkout()
    _print_in_any_encoding()
    _override_users()
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt as stop:
        said = str(stop) or "interrupted; the same command continues where it stopped"
        return _fail(arguments, said, 130)
    except UserError as error:
        if arguments.debug:
            raise
        return _fail(arguments, str(error), 1)
    except OSError as error:
        if arguments.debug:
            raise
        return _fail(arguments, _describe(error), 1)
    except Exception as error:
        if arguments.debug:
            raise
        plain = re.sub(r"\x1b\[[\d;]*m", "", str(error))  # Keras prints in bold
        text = " ".join(f"{type(error).__name__}: {plain}".split())[:300]
        return _fail(arguments, f"{text} (unexpected: --debug shows where)", 1)


def _print_in_any_encoding() -> None:
    """Have standard output spell out what its encoding lacks, as standard error does by itself."""
    codecs.register_error("deepnets.spell", _spell)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="deepnets.spell")


def _spell(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].replace("±", "+/-")
    return text.encode("ascii", "backslashreplace").decode(), error.end


def _override_users() -> None:
    """Undo what a user has set for programs of their own, and what would end this one."""
    # It may name a backend that is not installed, which Matplotlib refuses when it is imported.
    os.environ.pop("MPLBACKEND", None)
    # Errors for warnings: Keras and NumPy have some, at the end of a training.
    if os.environ.pop("PYTHONWARNINGS", ""):
        warnings.resetwarnings()
        for category in (
            DeprecationWarning,
            PendingDeprecationWarning,
            ImportWarning,
            ResourceWarning,
        ):
            warnings.simplefilter("ignore", category)


def _dispatch(arguments: argparse.Namespace) -> int:
    from deepnets.base import lifeline

    command = arguments.command
    lifeline.end_with_parents()
    if command == "repro":
        from deepnets.commands import repro

        repro.main(Path(arguments.study))
    elif command == "run":
        from deepnets.commands import run

        run.main({key: getattr(arguments, key) for key in sections.options()})
    elif command == "predict":
        from deepnets.commands import predict

        predict.main(arguments.pictures, arguments.model, arguments.json)
    elif command == "reproduce":
        from deepnets.commands import reproduce

        return reproduce.main(arguments.run, arguments.seed, arguments.here)
    elif command == "adopt":
        from deepnets.networks import runtime

        runtime.start_framework()
        from deepnets.commands import adopt

        return adopt.main(arguments.sources, arguments.replace)
    elif command == "diff":
        from deepnets.commands import diff

        diff.main(arguments.run_a, arguments.run_b, arguments.seed, arguments.figure)
    else:
        _, argument, needs_keras = STAGES[command]
        with ExitStack() as stack:
            _check_early(argument, getattr(arguments, "name", ""), stack)
            if command == "train":
                from deepnets.records import provenance

                provenance.warn()
            if needs_keras:
                from deepnets.networks import runtime

                runtime.start_framework()
            stage = importlib.import_module(f"deepnets.stages.{command}")
            stage.main(*([arguments.name] if argument else []))
    return 0


def _check_early(argument: str | None, name: str, stack: ExitStack) -> None:
    """Find a mistake before seconds go into imports; have the run `name` to itself for `stack`."""
    from deepnets.config import params

    study = params.load()
    if "DVC_STAGE" in os.environ:
        from deepnets.base import files

        # `check` may have been done before the link was made.
        files.require_no_links(Path())
    if argument == "RUN":
        from deepnets.base import locks

        study.entry(name)
        stack.enter_context(locks.held(name))
    elif argument == "START":
        study.check_start(name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deepnets",
        description="Deeper Networks For Image Classification, reproduced. Stages run in the "
        "folder of their study (the project's root, or studies/...) and read its params.yaml; "
        "`dvc repro` runs them all in order.",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command, (text, argument, _) in STAGES.items():
        stage = commands.add_parser(command, help=text, description=text.capitalize() + ".")
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
        help="a study's folder, there or here, or a folder with what was kept of metrics/ (and of "
        "models/) somewhere below it",
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
    return parser


def _use_this_checkout() -> None:
    """Run the code of the checkout that we stand in, whichever one is installed.

    `dvc exp run --temp` and `mlflow run` of a git URL work in copies of the project.
    """
    from deepnets.base import project

    root = project.find_root()
    here = Path(__file__).resolve().parent
    if root is None or here == root / "src" / "deepnets" or "DEEPNETS_CHECKOUT" in os.environ:
        return
    path = os.pathsep.join(filter(None, [str(root / "src"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "DEEPNETS_CHECKOUT": str(root)}
    os.execve(sys.executable, [sys.executable, "-m", "deepnets", *sys.argv[1:]], environment)


def _describe(error: OSError) -> str:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = f",{where} could not be written" if where else ""
        return f"the disk is full{what}: free some space; the same command then continues"
    if error.errno == errno.EROFS:
        return f"cannot write{where} ({error.strerror}): make it writable and run again"
    if where and error.errno in (errno.EACCES, errno.EPERM):
        # Which of the two was tried, the error does not say.
        return (
            f"cannot read or write{where} ({error.strerror}): get yourself the right to do both "
            "and run again"
        )
    return f"{one_line(error, 300)}: mend it and run the same command again"


def _fail(arguments: argparse.Namespace, message: str, status: int) -> int:
    print(f"deepnets {arguments.command}: {message}", file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
