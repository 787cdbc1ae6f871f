"""How a refusal of a parameter is put: where, what was expected, what was received, in one line."""

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from deepnets.config.fields import OTHER, PLAIN


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for the first complaint in `error`: where, what was expected, what was received."""
    problems = error.errors(include_url=False)
    # A misspelt key causes an unknown key and a missing one; the unknown one says more.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    hidden = ("[key]", PLAIN, OTHER)
    place = short_line(".".join(str(part) for part in problem["loc"] if part not in hidden))
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, problem["loc"][:-1])
        wrong = str(problem["loc"][-1])
        close = difflib.get_close_matches(wrong, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
        line = f"{place}: unknown key {short_line(repr(wrong))}; {hint}"
    elif problem["type"] == "missing":
        line = f"{place}: missing; expected a value"
    else:
        expected = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        line = f"{place}: expected {expected}; received {quote(problem['input'])}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{line}{more}: correct it and run again"


def quote(value: Any) -> str:
    """`value` as messages quote it: its repr in one short, printable line."""
    try:
        return short_line(repr(value))
    except ValueError:  # Python prints no number of more than 4,300 digits
        return "a number of thousands of digits"


def short_line(text: str) -> str:
    """`text` without line breaks, cut short, what cannot be printed escaped."""
    joined = " ".join(text.split())
    cut = joined if len(joined) <= 80 else joined[:77] + "..."
    return escape_unprintable(cut)


def escape_unprintable(text: str) -> str:
    """`text`, what cannot be printed in it escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _known_keys(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for part in place:
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if annotation is None:
            continue
        candidates = [annotation, *get_args(annotation)]
        model = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model
        )
    return list(model.model_fields)
