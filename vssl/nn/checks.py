"""Checks of configuration values, for constructors."""

from __future__ import annotations

from vssl.errors import VsslError


def check_at_least(name: str, value: float, least: float) -> None:
    """Raise `VsslError` if the value of the option `name` is smaller than `least`."""
    if value < least:
        raise VsslError(f"{name}={value} is too small: choose {least} or more")


def check_above_0(name: str, value: float) -> None:
    """Raise `VsslError` if the value of the option `name` is 0 or less."""
    if value <= 0:
        raise VsslError(f"{name}={value} is not possible: choose a number above 0")


def check_share(name: str, value: float) -> None:
    """Raise `VsslError` if the value of the option `name` is no share of 1."""
    if not 0 <= value <= 1:
        raise VsslError(f"{name}={value} is not a share: choose a number from 0 to 1")
