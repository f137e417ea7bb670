"""Mistakes in values: one line with place, value and the nearest valid one."""

from dataclasses import dataclass
from typing import Literal

import pytest

from vssl.errors import VsslError
from vssl.stage.build import build


@dataclass(frozen=True)
class Inner:
    size: int


@dataclass(frozen=True)
class Outer:
    rate: float
    variant: Literal["released", "eq4"]
    sizes: list[int]
    inner: Inner
    limit: int | None

    def __post_init__(self):
        if self.rate < 0:
            raise VsslError("rate must not be negative")


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"varaint": 1}, r"x\.varaint: no such option; did you mean 'variant'\?"),
        ({"variant": "relased"}, r"x\.variant=relased: no such value; did you mean 'released'\?"),
        ({"rate": "fast"}, r"x\.rate=fast: expected float, got str"),
        ({"rate": True}, r"x\.rate=True: expected float, got bool"),
        ({"sizes": [1, 2.5]}, r"x\.sizes=\[1, 2\.5\]: expected list\[int\]"),
        ({"limit": "ten"}, r"x\.limit=ten: expected int \| None"),
        ({"inner": {"_target_": f"{__name__}.Inner", "size": 1.5}}, r"x\.inner\.size=1\.5: expected int"),
        ({"inner": {"_target_": f"{__name__}.Inner"}}, r"x\.inner: needs a value for size"),
        ({"rate": "absent"}, r"x: needs a value for rate"),
        ({"rate": -1.0}, r"x: rate must not be negative"),
    ],
)
def test_one_line_for_each_mistake(changes, message):
    with pytest.raises(VsslError, match=message) as caught:
        build(node(**changes), "x")
    assert "\n" not in str(caught.value)
