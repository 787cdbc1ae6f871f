"""The one exception that reaches a user as a single line."""


class UserError(Exception):
    """Something the user can mend. The message says what was expected, received, and what to do."""


def one_line(error: BaseException, most: int) -> str:
    """The first `most` characters of what `error` says, in one line."""
    return " ".join(str(error).split())[:most]
