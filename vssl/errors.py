"""The exceptions that users are meant to meet."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any


class VsslError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and how to mend it.

    The launcher prints the line alone and exits with 1; every other exception is a defect of the
    program and keeps its traceback.
    """


class Diverged(VsslError):
    """The loss of a training is no finite number any more."""


class OptionError(VsslError):
    """A value of the configuration that cannot be, as `option=value: what is wrong; what to do`.

    A constructor names its own argument; whoever built it puts the path of its node in front (`below`), so
    that the user reads the option as it is typed.
    """

    def __init__(self, option: str, value: object, problem: str, remedy: str) -> None:
        super().__init__(f"{option}={as_typed(value)}: {problem}; {remedy}")
        self.option, self.value, self.problem, self.remedy = option, value, problem, remedy

    def below(self, node: str) -> "OptionError":
        """The same error with the option's path from further up."""
        return self.renamed(lambda option: f"{node}.{option}")

    def renamed(self, name: Callable[[str], str]) -> "OptionError":
        """The same error with another name of the option."""
        return OptionError(name(self.option), self.value, self.problem, self.remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle: loader processes raise it too."""
        return OptionError, (self.option, self.value, self.problem, self.remedy)


def as_typed(value: object) -> str:
    """A value as the command line has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(as_typed, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{as_typed(one)}' for name, one in value.items())}}}"
    return str(value)


def first_line(error: BaseException) -> str:
    """What an error of a library says, in its first line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def nearest(word: str, options: Iterable[str]) -> str:
    """The end of an error message: the option that was probably meant, else all of them."""
    names = sorted(options)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(names) or 'none'}"
