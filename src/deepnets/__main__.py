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
from deepnets.commands import options
from deepnets.config import sections


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 for a failure, 2 for wrong usage.

    `reproduce` has some for its verdicts as well.
    """
    _use_this_checkout()
    _print_in_any_encoding()
    _override_users()
    parser = options.parser()
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
        text = one_line(f"{type(error).__name__}: {plain}", 300)
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
    elif command == "grid":
        from deepnets.commands import grid

        return grid.main(
            Path(arguments.study),
            _split_at_commas(arguments.rows),
            [_seed(word) for word in _split_at_commas(arguments.seeds)],
            arguments.jobs,
            arguments.on,
            arguments.address,
        )
    elif command == "training":
        from deepnets.config import params
        from deepnets.grid import training
        from deepnets.records import provenance

        lifeline.end_in_order()
        params.load().entry(arguments.name)
        provenance.warn()
        if arguments.seed is None:
            training.train_in_turn(arguments.name)
        else:
            training.main(arguments.name, arguments.seed)
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

        # What an archive was unpacked into does not stay.
        lifeline.end_in_order()
        return adopt.main(arguments.sources, arguments.replace)
    elif command == "diff":
        from deepnets.commands import diff

        diff.main(arguments.run_a, arguments.run_b, arguments.seed, arguments.figure)
    else:
        _, argument, needs_keras = options.STAGES[command]
        with ExitStack() as stack:
            is_first = _check_early(command, getattr(arguments, "name", ""), stack)
            if command == "train" and is_first:
                from deepnets.records import provenance

                provenance.warn()
            if needs_keras:
                from deepnets.networks import runtime

                runtime.start_framework()
            stage = importlib.import_module(f"deepnets.stages.{command}")
            stage.main(*([arguments.name] if argument else []))
    return 0


def _split_at_commas(words: Sequence[str]) -> list[str]:
    """What was given as `A B` or as `A,B`."""
    return [part for word in words for part in word.split(",") if part]


def _seed(word: str) -> int:
    if not word.isdecimal():
        raise UserError(f"--seeds: expected whole numbers such as 0,1,2; received {word!r}")
    return int(word)


def _check_early(command: str, name: str, stack: ExitStack) -> bool:
    """Find a mistake before seconds go into imports; have the run `name` to itself for `stack`.

    Returns:
        Whether this is the process that has it, and writes: the first of those of a training.
    """
    from deepnets.config import params

    argument, is_first = options.STAGES[command][1], True
    study = params.load()
    if "DVC_STAGE" in os.environ:
        from deepnets.base import files

        # `check` may have been done before the link was made.
        files.require_no_links(Path())
    if argument == "RUN":
        from deepnets.base import locks

        study.entry(name)
        if command == "train":
            from deepnets.training import devices

            run = study.run_params(name, study.train.seeds[0])
            is_first = devices.check(run.batch_size).is_first
        if is_first:
            stack.enter_context(locks.held(name))
    elif argument == "START":
        study.check_start(name)
    return is_first


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
