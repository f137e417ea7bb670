"""Checks of configuration values, for constructors."""

from __future__ import annotations

from typing import get_args

from vssl.errors import VsslError, nearest


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise `VsslError` if the value of the option `name` is smaller than `least`."""
    if value < least:
        raise VsslError(f"{name}={value} is too small: choose {least} or more")


def check_choice(name: str, value: str, choices: object) -> None:
    """Raise `VsslError` unless the value of the option `name` is one of those of a `Literal` type."""
    allowed = get_args(choices)
    if value not in allowed:
        raise VsslError(f"{name}={value}: no such value; {nearest(value, allowed)}")
