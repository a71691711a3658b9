"""The one exception a user is meant to see."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Input a person can mend: names the file, key or row and what was expected. The command line exits with 2."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The known word that a mistyped one is nearest to, as the end of a message: " (did you mean 'text'?)"; "" for none."""
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
