"""Checks of configuration values, for constructors."""

from __future__ import annotations

from vssl.errors import OptionError


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
