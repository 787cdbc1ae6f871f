"""The one exception that reaches a user as a single line."""


class UserError(Exception):
    """Something the user can mend. The message says what was expected, received, and what to do."""
