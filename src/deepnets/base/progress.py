"""How progress is shown: a live bar on a terminal, a line now and then in a log file."""

import sys
from typing import Any

from tqdm import tqdm

# Seconds between two lines of a bar whose output is not a terminal.
_LOG_INTERVAL = 15.0


def bar(total: int, description: str, unit: str) -> Any:
    """A tqdm bar with ETA for `total` units."""
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        unit_divisor=1024,
        dynamic_ncols=True,
        leave=False,
        mininterval=0.2 if sys.stderr.isatty() else _LOG_INTERVAL,
    )


def say(line: str) -> None:
    """Print `line` at once, above a bar that may be live."""
    if sys.stderr.isatty():
        tqdm.write(line)
    else:
        print(line)
    sys.stdout.flush()


def duration(seconds: float) -> str:
    """A length of time for people: `40 s`, `12 min`, `3 h 20 min`, `5 days 7 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(minutes / 60)
    return f"{hours // 24} days {hours % 24} h"
