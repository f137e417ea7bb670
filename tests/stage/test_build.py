"""Mistakes in values: one line with place, value and the nearest valid one."""

import importlib
from dataclasses import dataclass
from typing import Literal

import pytest

from vssl.checks import check_at_least
from vssl.errors import VsslError
from vssl.stage.build import build, build_as


@dataclass(frozen=True)
class Inner:
    size: int

    def __post_init__(self):
        check_at_least("size", self.size, 0)


@dataclass(frozen=True)
class Outer:
    rate: float
    variant: Literal["released", "eq4"]
    sizes: list[int]
    inner: Inner
    limit: int | None

    def __post_init__(self):
        check_at_least("rate", self.rate, 0)


def node(**changes):
    values = {
        "_target_": f"{__name__}.Outer",
        "rate": 1,
        "variant": "eq4",
        "sizes": [1, 2],
        "inner": {"_target_": f"{__name__}.Inner", "size": 3},
        "limit": None,
    }
    return {name: value for name, value in {**values, **changes}.items() if value != "absent"}


def test_nested_objects():
    assert build(node(), "x") == Outer(1, "eq4", [1, 2], Inner(3), None)


ELSEWHERE = """
from __future__ import annotations
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar, Literal

@dataclass(frozen=True)
class Base:
    kind: ClassVar[str] = "none of the arguments"
    way: Literal["up", "down"]
    made: Fraction = field(init=False, default=Fraction(1))
"""


class Written:
    """A class without fields."""

    def __init__(self, size: int, **others: float) -> None:
        self.size, self.others = size, others


def test_arguments_that_are_inherited_from_a_module_with_types_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "mine_elsewhere.py").write_text(ELSEWHERE)
    monkeypatch.syspath_prepend(tmp_path)
    base = importlib.import_module("mine_elsewhere").Base
    mine = dataclass(frozen=True)(type("Mine", (base,), {"__annotations__": {"size": "int"}}))
    assert build_as(mine, {"way": "up", "size": 2}, "x") == mine("up", 2)
    for given, message in (
        ({"way": "left", "size": 2}, r"^x\.way=left: no such value; valid: down, up$"),
        ({"way": "up", "size": "big"}, r"^x\.size=big: not a whole number; give"),
        ({"way": "up", "size": 1, "kind": "a"}, r"^x\.kind=a: no such option; "),
        ({"way": "up", "size": 1, "made": 1}, r"^x\.made=1: no such option; "),
        ({"way": "up"}, r"^x\.size: needs a value; x\.size=\.\.\.$"),
    ):
        with pytest.raises(VsslError, match=message):
            build_as(mine, given, "x")


def test_further_arguments_have_a_type_too():
    assert build_as(Written, {"size": 1, "a": 0.5}, "x").others == {"a": 0.5}
    with pytest.raises(VsslError, match=r"^x\.a=much: not a number; give a number$"):
        build_as(Written, {"size": 1, "a": "much"}, "x")


@dataclass(frozen=True)
class Words:
    only: str | int | float | list[str | int | float] | None


def test_a_list_of_several_types_is_named_in_the_plural():
    assert build_as(Words, {"only": ["a", 2, 0.5]}, "x") == Words(["a", 2, 0.5])
    wanted = "text or a number or a list of texts or numbers in brackets or null"
    with pytest.raises(VsslError, match=rf"^x\.only=\[true\]: not {wanted}; give {wanted}$"):
        build_as(Words, {"only": [True]}, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"varaint": 1}, "x.varaint=1: no such option; did you mean 'variant'?"),
        ({"variant": "relased"}, "x.variant=relased: no such value; did you mean 'released'?"),
        ({"rate": "fast"}, "x.rate=fast: not a number; give a number"),
        ({"rate": True}, "x.rate=true: not a number; give a number"),
        ({"rate": float("nan")}, "x.rate=nan: not a number; give a number"),
        (
            {"sizes": [1, 2.5]},
            "x.sizes=[1,2.5]: not a list of whole numbers in brackets; give",
        ),
        ({"limit": "ten"}, "x.limit=ten: not a whole number or null; give a whole number or null"),
        ({"inner": 3}, "x.inner=3: not an Inner (a node with a _target_); give"),
        ({"inner": {"_target_": f"{__name__}.Inner", "size": 1.5}}, "x.inner.size=1.5: not a whole number; "),
        (
            {"inner": {"_target_": f"{__name__}.Inner", "size": -1}},
            "x.inner.size=-1: too small",
        ),
        ({"inner": {"_target_": f"{__name__}.Inner"}}, "x.inner.size: needs a value"),
        ({"rate": "absent"}, "x.rate: needs a value"),
        ({"rate": -1.0}, "x.rate=-1.0: too small; choose 0 or more"),
    ],
)
def test_one_line_for_each_mistake(changes, message):
    with pytest.raises(VsslError) as caught:
        build(node(**changes), "x")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
