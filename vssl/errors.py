"""The one exception that users are meant to meet."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VsslError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and how to mend it.

    The launcher prints the line alone and exits with 1; every other exception is a defect of the
    program and keeps its traceback.
    """


def nearest(word: str, options: Iterable[str]) -> str:
    """The end of an error message: the option that was probably meant, else all of them."""
    names = sorted(options)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(names) or 'none'}"
