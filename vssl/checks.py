"""Checks of configuration values, for constructors."""

from __future__ import annotations

from collections.abc import Sequence

from vssl.errors import OptionError, nearest

LEAST_TEMPERATURE = 1e-4


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


def check_temperature(name: str, value: float) -> None:
    """Raise `OptionError` if cosines divided by the value of the option `name` lose their digits or overflow:
    float32 has seven of them."""
    if value < LEAST_TEMPERATURE:
        raise OptionError(name, value, "too small to compute with", f"choose {LEAST_TEMPERATURE:g} or more")


def check_between(name: str, value: float, least: float, most: float) -> None:
    """Raise `OptionError` if the value of the option `name` lies outside of a range."""
    if not least <= value <= most:
        raise OptionError(name, value, "out of range", f"choose a number from {least:g} to {most:g}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise `OptionError` if the value of the option `name` is none of the choices."""
    if value not in choices:
        raise OptionError(name, value, "no such value", nearest(str(value), choices))


def check_text(name: str, value: object) -> None:
    """Raise `OptionError` if the value of the option `name` is no text."""
    if not isinstance(value, str):
        raise OptionError(name, value, "not text", "give text")


def check_list(name: str, value: object, kind: type[int] | type[str]) -> None:
    """Raise `OptionError` if the value of the option `name` is no list of texts, or of whole numbers."""
    if not isinstance(value, list) or not all(type(item) is kind for item in value):
        wanted = "a list of whole numbers" if kind is int else "a list of texts"
        raise OptionError(name, value, f"not {wanted}", f"give {wanted} in brackets")


def check_type(name: str, value: object, kind: type[int] | type[float]) -> None:
    """Raise `OptionError` if the value of the option `name` is no number; for values that nobody built."""
    if not isinstance(value, (int, kind)) or isinstance(value, bool):
        wanted = "a whole number" if kind is int else "a number"
        raise OptionError(name, value, f"not {wanted}", f"give {wanted}")
