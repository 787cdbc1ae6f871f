"""YAML as DVC reads it, so that both see the same values (`1e-3` is a number to both), with guards.

What a file of parameters cannot mean is refused before memory or minutes go into it: aliases can
stand for billions of values, and brackets take minutes to read.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import NodeEvent
from ruamel.yaml.nodes import Node
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import Scanner, ScannerError

from deepnets.base.errors import UserError
from deepnets.config.words import short_line

# The study's file has 3 KiB. The time that the reader takes grows with the square of the depth of
# brackets.
_LARGEST_FILE = 2**15
_DEEPEST_BRACKETS = 50


def read_yaml(path: Path, *, anchors: bool = False) -> Any:
    """The file's content as plain Python values; what `parse_yaml` refuses is a `UserError`.

    Args:
        path: a params.yaml.
        anchors: take YAML's anchors and aliases too, as the files of earlier commits have them.
            `dvc exp run -S` changes what an alias stands for wherever it stands, or nothing.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise UserError(
                f"{path}: expected at most {_LARGEST_FILE // 1024} KiB; received more: shorten it"
            )
        text = content.decode()
    except FileNotFoundError:
        raise UserError(
            f"{path.resolve()} does not exist: run this in the project's root or in a study's "
            "folder (studies/...)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    # Before anything is made of them: a few aliases can stand for more values than there is memory.
    anchored = None if anchors else _find_anchor(text)
    if anchored:
        raise UserError(
            f"{path}: {anchored}, which DVC does not see through (`dvc exp run -S` changes another "
            "value than the one that it names, or none): write out what it stands for"
        )
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{path}: {error}: correct it") from None


def _find_anchor(text: str) -> str | None:
    """The first anchor in `text`, and its line; there is no alias without."""
    # What is wrong with text that is no YAML, `parse_yaml` says.
    with suppress(Exception):
        for event in _yaml().parse(text):
            if isinstance(event, NodeEvent) and event.anchor:
                line = event.start_mark.line + 1
                return f"line {line}: expected values; received {short_line(f'&{event.anchor}')!r}"
    return None


def parse_yaml(text: str) -> Any:
    """What the YAML `text` says, in plain Python values (safe loader, YAML 1.2).

    Raises:
        ValueError: it is malformed; the message says where and why in one line.
    """
    try:
        return _yaml().load(text)
    except RecursionError:
        raise ValueError("not valid YAML (nested too deeply)") from None
    except Exception as error:  # a parser of damaged text may raise anything
        line = _line(error, text)
        where = "" if line is None else f"line {line}: "
        what = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise ValueError(f"{where}not valid YAML ({short_line(what)})") from None


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner, yaml.Constructor = _Scanner, _Constructor
    return yaml


def _line(error: Exception, text: str) -> int | None:
    """Where in `text` ruamel.yaml found what it complains about; None where it does not say."""
    if isinstance(error, ReaderError):
        return text.count("\n", 0, error.position) + 1
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark else None


class _Scanner(Scanner):
    """Ends where brackets are nested so deeply that reading on would take minutes."""

    def fetch_flow_collection_start(self, *arguments: Any, **options: Any) -> None:
        if self.flow_level >= _DEEPEST_BRACKETS:
            raise ScannerError(None, None, "brackets nested too deeply", self.reader.get_mark())
        super().fetch_flow_collection_start(*arguments, **options)


class _Constructor(SafeConstructor):
    """Says in which line a value is not of its type."""

    def construct_mapping(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_mapping(node, deep)
        except TypeError as error:  # a list may be a key, as a tuple, but not one of mappings
            raise ConstructorError(None, None, str(error), node.start_mark) from None

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (MarkedYAMLError, RecursionError):
            raise
        except ValueError as error:
            raise ConstructorError(None, None, str(error), node.start_mark) from None
        # The constructors of scalars look things up in what they take to be well-formed.
        except Exception:
            kind = str(node.tag).rpartition(":")[2]
            raise ConstructorError(
                None, None, f"{node.value!r} is no {kind}", node.start_mark
            ) from None
