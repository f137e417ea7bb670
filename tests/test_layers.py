"""Who may import whom (the picture in CONTRIBUTING): a lower layer never knows a higher one."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASE = {"vssl", "checks", "errors", "files", "modules", "distributed", "stop"}
SIBLINGS = {"backbone", "pretext", "auxiliary", "protocol", "data", "engine", "tracking", "report"}
ALLOWED = {
    "errors": set(),
    "checks": BASE,
    "files": BASE,
    "modules": BASE,
    "stop": BASE,
    "distributed": BASE,
    "types": BASE,
    "nn": BASE | {"types"},
    **{name: BASE | {"types", "nn"} for name in SIBLINGS},
    "stage": BASE | {"types", "nn"} | SIBLINGS,
    "pipeline": BASE | {"data", "stage"},
    "dispatch": BASE | {"types", "nn", "stage", "pipeline"} | SIBLINGS,
    "commands": BASE | {"types", "nn", "stage", "pipeline", "dispatch"} | SIBLINGS,
    "cli": BASE,
}
ONE_HOME = {
    "mlflow": "vssl/tracking/mlflow.py",
    "decord": "vssl/data/decoders/decord.py",
    "torchcodec": "vssl/data/decoders/torchcodec.py",
    "av": "vssl/data",
    "rich": "vssl/report",
    "omegaconf": ("vssl/pipeline.py", "vssl/commands", "vssl/cli.py"),
}
FILES = sorted((ROOT / "vssl").rglob("*.py"))


def imports(path):
    """Modules that a file imports at any depth, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers(path):
    parts = path.relative_to(ROOT / "vssl").with_suffix("").parts
    if parts == ("__init__",):
        return
    layer = parts[0]
    for module in imports(path):
        if module.startswith("vssl."):
            target = module.split(".")[1]
            known = (ROOT / "vssl" / target).exists() or (ROOT / "vssl" / f"{target}.py").exists()
            assert not known or target == layer or target in ALLOWED[layer], f"imports {module}"


@pytest.mark.parametrize("library", ONE_HOME)
def test_a_library_has_one_home(library):
    homes = ONE_HOME[library]
    users = {
        str(path.relative_to(ROOT))
        for path in FILES
        if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users
    assert all(user.startswith(homes) for user in users), users
