"""The one exception a user is meant to see."""


class UserError(Exception):
    """Input a person can mend: names the file, key or row and what was expected. The command line exits with 2."""
