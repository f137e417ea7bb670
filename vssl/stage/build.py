"""From the plain data of a recipe to objects, with errors that a user can act on."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate

from vssl.errors import VsslError, nearest


def build(node: Mapping[str, Any], where: str) -> Any:
    """Construct the object that `node["_target_"]` names; `where` is its place in the config.

    Raises `VsslError` for an unknown or missing argument or a value of the wrong type, with the
    nearest valid one.
    """
    _check_node(node, where)
    try:
        return instantiate(dict(node), _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, VsslError):
            raise VsslError(f"{where}: {error.__cause__}") from error
        raise


def _check_node(node: Mapping[str, Any], where: str) -> None:
    hints = _arguments(get_class(node["_target_"]))
    given = {name: value for name, value in node.items() if name != "_target_"}
    for name, value in given.items():
        if name not in hints:
            raise VsslError(f"{where}.{name}: no such option; {nearest(name, hints)}")
        _check_value(value, hints[name], f"{where}.{name}")
    missing = sorted(set(hints) - set(given))
    if missing:
        raise VsslError(f"{where}: needs a value for {', '.join(missing)}")


def _arguments(cls: type) -> dict[str, Any]:
    """Names and types of the constructor's arguments."""
    hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]  # dataclass or inherited: both have one
    hints.pop("return", None)
    return hints


def _check_value(value: Any, hint: Any, where: str) -> None:
    if isinstance(value, Mapping) and "_target_" in value:
        _check_node(value, where)
    elif get_origin(hint) is Literal:
        if value not in get_args(hint):
            options = [str(option) for option in get_args(hint)]
            raise VsslError(f"{where}={value}: no such value; {nearest(str(value), options)}")
    elif not _fits(value, hint):
        name = hint.__name__ if isinstance(hint, type) else str(hint)
        raise VsslError(f"{where}={value}: expected {name}, got {type(value).__name__}")


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is bool or hint is str:
        return isinstance(value, hint)
    return True if hint is Any else isinstance(value, hint)
