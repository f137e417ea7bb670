"""Every config group: complete, without defaults in code, and with errors that help."""

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class

from conftest import ROOT, composed
from vssl.pipeline import plan
from vssl.stage.build import build
from vssl.stage.run import check

GROUPS = ["backbone", "pretext", "auxiliary", "source", "downstream", "protocol", "tracking", "runtime"]
CHOICES = [
    f"{group}={path.stem}" for group in GROUPS for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
]


def targets(node):
    """All nodes with a _target_."""
    if isinstance(node, dict):
        if node.get("_target_"):
            yield node
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_yaml_lists_every_argument_and_every_value_has_its_type(choice):
    cfg = composed(choice, f"outputs={Path('outputs').absolute()}")
    for spec in plan(cfg):
        check(spec)
        for node in targets(spec.recipe):
            assert_no_defaults(get_class(node["_target_"]))
    for group in ("tracking", "dispatch", "runtime"):
        build(dict(cfg[group]), group)


def assert_no_defaults(cls):
    parameters = inspect.signature(cls).parameters.values()
    defaults = [p.name for p in parameters if p.default is not inspect.Parameter.empty]
    assert not defaults, f"{cls.__name__} has defaults in code for {defaults}; they belong into its yaml"
