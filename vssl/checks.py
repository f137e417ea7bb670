"""Checks of configuration values, for constructors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path

from vssl.errors import OptionError, nearest

Limit = dict[str, Callable[[str, float], None]]


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise `OptionError` if the value of the option `name` is smaller than `least`."""
    if value < least:
        raise OptionError(name, value, "too small", f"choose {least:g} or more")


def check_above_0(name: str, value: float) -> None:
    """Raise `OptionError` if the value of the option `name` is 0 or less."""
    if value <= 0:
        raise OptionError(name, value, "too small", "choose a number above 0")


def check_share(name: str, value: float) -> None:
    """Raise `OptionError` if the value of the option `name` is no share of 1."""
    if not 0 <= value <= 1:
        raise OptionError(name, value, "not a share", "choose a number from 0 to 1")


def check_below_1(name: str, value: float) -> None:
    """Raise `OptionError` if the value of the option `name` is negative, or 1 or more."""
    if not 0 <= value < 1:
        raise OptionError(name, value, "not a share below 1", "choose a number from 0 to below 1")


def check_between(name: str, value: float, least: float, most: float) -> None:
    """Raise `OptionError` if the value of the option `name` lies outside of a range."""
    if not least <= value <= most:
        raise OptionError(name, value, "out of range", f"choose a number from {least:g} to {most:g}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise `OptionError` if the value of the option `name` is none of the choices."""
    if value not in choices:
        raise OptionError(name, value, "no such value", nearest(str(value), choices))


def check_text(name: str, value: object) -> None:
    """Raise `OptionError` if the value of the option `name` is no text, or an empty one."""
    if not isinstance(value, str):
        raise OptionError(name, value, "not text", "give text")
    if not value.strip():
        raise OptionError(name, value, "empty", "give text; is it a variable of the shell that is not set?")


def check_list(name: str, value: object, kind: type[int] | type[str]) -> None:
    """Raise `OptionError` if the value of the option `name` is no list of texts, or of whole numbers."""
    if not isinstance(value, list) or not all(type(item) is kind for item in value):
        wanted = "a list of whole numbers" if kind is int else "a list of texts"
        raise OptionError(name, value, f"not {wanted}", f"give {wanted} in brackets")


def check_folder(name: str, path: Path) -> None:
    """Raise `OptionError` if the value of the option `name` is no folder and none can be made there."""
    with naming_place(name, path):
        there = next(one for one in (path, *path.parents) if one.is_symlink() or one.exists())
    if not there.is_dir():
        raise OptionError(name, path, f"{there} is not a folder", "give another place")


def make_folder(name: str, path: Path) -> None:
    """Make the folder that is the value of the option `name`. Raises `OptionError` if that cannot be."""
    with naming_place(name, path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def naming_place(name: str, path: Path) -> Iterator[None]:
    """Errors of the file system in the block name the option whose value is that path."""
    try:
        yield
    except OSError as error:
        raise OptionError(name, path, str(error.strerror), "give another place") from error


def check_type(name: str, value: object, kind: type[int] | type[float]) -> None:
    """Raise `OptionError` if the value of the option `name` is no number; for values that nobody built."""
    if not isinstance(value, (int, kind)) or isinstance(value, bool):
        wanted = "a whole number" if kind is int else "a number"
        raise OptionError(name, value, f"not {wanted}", f"give {wanted}")


def at_least(least: float) -> Limit:
    """The smallest value of a field."""
    return {"check": partial(check_at_least, least=least)}


def between(least: float, most: float) -> Limit:
    """The smallest and the largest value of a field."""
    return {"check": partial(check_between, least=least, most=most)}


ABOVE_0: Limit = {"check": check_above_0}
SHARE: Limit = {"check": check_share}
BELOW_1: Limit = {"check": check_below_1}
TEMPERATURE = at_least(1e-4)
"""Cosines divided by less lose their digits or overflow: float32 has seven of them."""


class Checked:
    """A dataclass whose fields tell their limits: `momentum: float = field(metadata=SHARE)`.

    Another value raises `OptionError`; null is no value.
    """

    def __post_init__(self) -> None:
        for part in fields(self):  # type: ignore[arg-type]
            value, check = getattr(self, part.name), part.metadata.get("check")
            if check and value is not None:
                check(part.name, value)
