"""One spelling for labels and other short texts, wherever they are written."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator


def plain(text: str) -> str:
    """A text without blanks around it, in Unicode form NFC: so the same in a configuration, a table and a folder's name."""
    return unicodedata.normalize("NFC", text).strip()


Label = Annotated[str, AfterValidator(plain)]
"""A text in a configuration or a prompts file that is compared with one of a data set."""
