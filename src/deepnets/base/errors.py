"""The one exception that reaches a user as a single line."""


class UserError(Exception):
    """Something the user can mend. The message says what was expected, received, and what to do."""


def one_line(said: BaseException | str, most: int) -> str:
    """The first `most` characters of what was said, or of what an error says, in one line."""
    return " ".join(str(said).split())[:most]
