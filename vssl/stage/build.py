"""From plain data to objects, with errors that name the option as it is typed."""

import inspect
import math
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, Union, get_args, get_origin

from vssl.errors import OptionError, VsslError, nearest

WANTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}
"""What to give for an option of each type."""


def build(node: Mapping[str, Any], where: str) -> Any:
    """Construct the object that `node["_target_"]` names, those inside it first.

    `where` is the node's path in the config. Raises `OptionError` for an argument that is unknown, missing,
    of the wrong type or, as the constructor says, out of range.
    """
    if not isinstance(node, Mapping) or "_target_" not in node:
        remedy = f"set one of its own options ({where}.NAME=...)"
        raise OptionError(where, node, "not a node with a _target_", remedy)
    given = {name: value for name, value in node.items() if name != "_target_"}
    return build_as(_class(node["_target_"], where), given, where)


def build_as(target: type, given: Mapping[str, Any], where: str) -> Any:
    """The same for a known class."""
    hints, others = _arguments(target)
    below = f"{where}." if where else ""
    for name, value in given.items():
        if name not in hints and others is None:
            remedy = f"{nearest(name, hints)} (or take it out, with ~ before its path)"
            raise OptionError(f"{below}{name}", value, "no such option", remedy)
    if missing := sorted(set(hints) - set(given)):
        raise VsslError(f"{below}{missing[0]}: needs a value; {below}{missing[0]}=...")
    arguments = {name: _made(one, hints.get(name, others), f"{below}{name}") for name, one in given.items()}
    with naming(where):
        return target(**arguments)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put the path of a node in front of the options that errors name while the block runs."""
    try:
        yield
    except OptionError as error:
        raise error.below(where) if where else error from error


def _class(path: object, where: str) -> type:
    remedy = "give the path of a class in a module that Python finds"
    if not isinstance(path, str):
        raise OptionError(f"{where}._target_", path, "not text", remedy)
    module, _, name = path.rpartition(".")
    try:
        found: type = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"{where}._target_", path, f"cannot be imported ({error})", remedy) from error
    return found


@cache
def _arguments(target: type) -> tuple[dict[str, Any], Any]:
    """Types of the constructor's arguments by name, and that of further ones (`**`) or None."""
    parameters = inspect.signature(target).parameters
    is_fields = is_dataclass(target) and {one.name for one in fields(target) if one.init} == set(parameters)
    # Fields are annotated in the class that has them; their types may be known to its module alone.
    annotated = typing.get_type_hints(target if is_fields else target.__init__)  # type: ignore[misc]
    hints = {name: annotated[name] for name in parameters if name in annotated}
    others = next((one.name for one in parameters.values() if one.kind is one.VAR_KEYWORD), None)
    return hints, hints.pop(others, None) if others else None


def _made(value: Any, hint: Any, where: str) -> Any:
    """The value of an argument; an object where it is the node of one."""
    if isinstance(value, Mapping) and "_target_" in value:
        made = build(value, where)
        if not _fits(made, hint):
            name = type(made).__name__
            raise OptionError(
                f"{where}._target_", value["_target_"], f"{name} is no {_name(hint)}", "give one"
            )
        return made
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            remedy = nearest(str(value), map(str, get_args(hint)))
            raise OptionError(where, value, "no such value", remedy)
    elif not _fits(value, hint):
        raise OptionError(where, value, f"not {_wanted(hint)}", _remedy(value, hint, where))
    if isinstance(value, int) and abs(value) >= 2**63:
        raise OptionError(where, value, "too large", "choose a whole number below 2**63")
    if value == "":
        raise OptionError(where, value, "empty", f"give {_wanted(hint)}")
    return value


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType, Literal):
        return any(value == option if origin is Literal else _fits(value, option) for option in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if getattr(hint, "_is_protocol", False):
        return not isinstance(value, (*WANTED, list, Mapping))  # any object will do
    return hint is Any or isinstance(value, origin or hint)


def _remedy(value: Any, hint: Any, where: str) -> str:
    """What to do about a value of the wrong type; a node that may be left out was probably overwritten."""
    options = get_args(hint)
    has_nodes = any(one not in WANTED and get_origin(one) is not list for one in options)
    if type(None) in options and has_nodes and not isinstance(value, Mapping):
        name = where.rpartition(".")[2]
        return f"set one of its own options ({name}.NAME=...), or leave it out with {name}=null"
    return f"give {_wanted(hint)}"


def _wanted(hint: Any) -> str:
    """What a value of this type is, in words."""
    if len(kinds := _kinds(hint)) > 1:
        return " or ".join(map(_wanted, kinds))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is list:
        items = [f"{_wanted(kind).removeprefix('a ')}s" for kind in _kinds(get_args(hint)[0])]
        return f"a list of {' or '.join(items)} in brackets"
    article = "an" if _name(hint)[0] in "AEIOU" else "a"
    return WANTED.get(hint, f"{article} {_name(hint)} (a node with a _target_)")


def _kinds(hint: Any) -> list[Any]:
    """The types of a union, or the one type; whole numbers are numbers."""
    found = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else [hint]
    return [kind for kind in found if not (kind is int and float in found)]


def _name(hint: Any) -> str:
    options = [one for one in get_args(hint) if one is not type(None)]
    return " or ".join(map(_name, options)) if options else getattr(hint, "__name__", str(hint))
