"""Command-line words as Hydra takes them.

Hydra's grammar reads more into a word than people mean: it takes 2024_01_15 for a number, and stumbles over
R&D. Here what it cannot read is text, and so is the value of an option that takes nothing but text.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from vssl.compat.hydra_private import refuse_flags
from vssl.errors import VsslError, nearest

MULTIRUN = ("-m", "--multirun")
TEXT = re.compile(
    r"outputs|label|column|roots\.\w+|(.*\.)?stage"
    r"|.*\.(root|lists|index|weights|out|uri|url|experiment|name|partition|account|qos|constraint)"
)
"""Options whose value is a path, a name or another text, whatever it looks like."""
OWN_QUOTES = re.compile(r"'.*'|\".*\"", re.DOTALL)
NESTED = re.compile(r"['\"\[({]")
"""What a comma may stand in without separating values of a sweep."""
WORDS = re.compile(r"\[([^][{}'\"]+)\]")
"""A list of words without quotation marks."""


def as_hydra_wants_it(words: Sequence[str]) -> list[str]:
    """Command-line words in Hydra's grammar, which takes no flag after the first override, and a `+` only and
    always before a group that the defaults list has not: people write `mode=plan -m`, `+experiment=quick` and
    `sweeps=table4`. A sweep file is always a multirun, and so is a sweeper that is chosen."""
    words = [word.removeprefix("+") if word.startswith("+experiment=") else word for word in words]
    words = [word for word in words if word != "experiment=null"]  # as it is by default
    words = [f"+{word}" if word.startswith("sweeps=") else word for word in words]
    sweeps = any(word.startswith(("+sweeps=", "hydra/sweeper=")) for word in words)
    if sweeps and not any(word.startswith("-") for word in words):
        words = ["-m", *words]
    is_sweep = any(word in MULTIRUN for word in words)
    words = [word if word.startswith("-") else _with_quotes(word, is_sweep) for word in words]
    return sorted(words, key=lambda word: word not in MULTIRUN)


def check_words(words: Sequence[str], groups: Mapping[str, Sequence[str]]) -> None:
    """Raise `VsslError` for what Hydra takes without a word, or refuses with a riddle: unknown flags,
    a group without a choice, an option of Hydra that does not exist, a sweep that a later value of the same
    option replaces. `groups`: the choices of each group that has to have one.
    """
    refuse_flags(words)
    given: dict[str, list[Override]] = defaultdict(list)
    for word in words:
        if not word.strip():
            raise VsslError("an option is empty; is a variable of the shell? Leave it out, or set it")
        if "=" not in word and not word.startswith("~"):
            continue  # a flag, what follows a flag, or a word that Hydra refuses
        override = _parsed(word)
        if override is None:
            key = word.partition("=")[0]
            if _parsed(f"{key}=x"):
                raise VsslError(f"{word}: these are no values; write one between any two commas")
            raise VsslError(f"{word}: {key!r} is no name of an option; an option is key=value (--help)")
        name = override.key_or_group
        _check_choice(override, groups.get(name), word)
        if name.startswith("hydra."):
            _check_hydras(name)
        given[f"{name}@{override.package or ''}"].append(override)
    for same in given.values():
        lost = [one.input_line for one in same[:-1] if one.is_sweep_override()]
        if lost and any(word in MULTIRUN for word in words):
            raise VsslError(
                f"{lost[0]}: {same[-1].input_line} comes after it and would replace it; leave one out"
            )


def quoted(text: str) -> str:
    """A value as Hydra's grammar takes it, whatever stands in it."""
    return "'" + re.sub(r"(\\*)('|$)", lambda end: end[1] * 2 + end[2].replace("'", "\\'"), text) + "'"


def _with_quotes(word: str, is_sweep: bool) -> str:
    """`key=value` with quotes where Hydra would read the value as something else, or not at all."""
    key, equals, value = word.partition("=")
    if not equals or word.startswith("~") or not _parsed(f"{key}=x"):
        return word
    is_text = bool(TEXT.fullmatch(key.lstrip("+")))
    whole = _parsed(f"x={value}")
    if is_sweep and whole and whole.is_sweep_override() and (not is_text or NESTED.search(value)):
        return word
    several = is_sweep and not NESTED.search(value)
    values = value.split(",") if several else [value]
    return f"{key}={','.join(_readable(one, is_text) for one in values)}"


def _readable(text: str, is_text: bool) -> str:
    """A value as Hydra reads what is meant: a text, or a list in which some words are texts."""
    if _is_read(text, is_text):
        return text
    words = None if is_text else WORDS.fullmatch(text)
    if words is None:
        return quoted(text)
    return f"[{','.join(_readable(word.strip(), is_text) for word in words[1].split(','))}]"


def _is_read(text: str, is_text: bool) -> bool:
    """Whether Hydra reads a value as what it is meant to be."""
    override = _parsed(f"x={text}")
    if override is None or not is_text:
        return override is not None
    value = override.value()
    return value is None or value == text or (isinstance(value, str) and bool(OWN_QUOTES.fullmatch(text)))


@cache
def _parsed(word: str) -> Override | None:
    """The word as Hydra reads it; None if it cannot."""
    key = word.partition("=")[0]
    if not key.strip("+~@: "):
        return None
    try:
        return OverridesParser.create().parse_overrides([word])[0]
    except (HydraException, ValueError, RecursionError):  # a number of too many digits; brackets in brackets
        return None


def _check_choice(override: Override, choices: Sequence[str] | None, word: str) -> None:
    """Refuse what is no choice of a group that has to have one, and several sweep files."""
    name, choice = override.key_or_group, override.value()
    if name == "sweeps" and not isinstance(choice, str) and not override.is_delete():
        raise VsslError(
            f"{word.lstrip('+')}: one sweep file at a time; those that share stages run them once"
        )
    if choices is None or override.is_sweep_override() or isinstance(choice, dict):
        return
    if override.is_add() or override.is_force_add():
        raise VsslError(f"{word}: {name} has a choice; replace it, {word.lstrip('+')} without a +")
    if name == "experiment" and override.is_delete():
        return
    if override.is_delete() or choice is None:
        remedy = f"say {name}=none" if "none" in choices else f"choose one: {', '.join(choices)}"
        raise VsslError(f"{word}: {name} has to have a choice; {remedy}")
    if isinstance(choice, list) and name != "experiment":
        each = ",".join(map(str, choice))
        raise VsslError(f"{word}: {name} has one choice at a time; -m {name}={each} tries each")
    for one in choice if isinstance(choice, list) else [choice]:
        if not re.fullmatch(r"[\w.-]+", str(one)) or not isinstance(one, str):
            raise VsslError(f"{name}={one}: no such choice; {nearest(str(one), choices)}")


def _check_hydras(name: str) -> None:
    """Refuse an option of Hydra itself that there is not."""
    known = {field.name for field in fields(HydraConf)}
    if (first := name.split(".")[1]) not in known:
        raise VsslError(f"{name}: no such option; {nearest(first, known)}")
