"""Who may import whom (the picture in CONTRIBUTING): a lower layer never knows a higher one."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASE = {"vssl", "checks", "compat", "cores", "distributed", "errors", "files", "modules", "result", "secrets"}
BASE |= {"rendezvous", "stop", "terminal", "video", "words"}
SIBLINGS = {"backbone", "pretext", "auxiliary", "protocol", "data", "engine", "tracking"}
STAGE = BASE | {"types", "nn", "stage"} | SIBLINGS
PIPELINE = STAGE | {"pipeline", "rehearsal"}
REPORT = PIPELINE | {"dispatch", "report"}
TOP = REPORT | {"commands", "context", "options", "preflight", "tuning"}
ALLOWED = {
    **dict.fromkeys(BASE, BASE),
    "types": BASE,
    "nn": BASE | {"types"},
    **{name: BASE | {"types", "nn"} for name in SIBLINGS},
    "stage": STAGE,
    "rehearsal": BASE,
    "pipeline": BASE | {"data", "stage", "rehearsal"},
    "dispatch": PIPELINE,
    "report": REPORT,
    **dict.fromkeys(("commands", "context", "options", "preflight", "tuning", "worker"), TOP),
    "cli": BASE | {"overrides"},
    "overrides": BASE,
}
CONFIGS = ("pipeline", "rehearsal", "preflight", "options", "commands", "cli")
ONE_HOME = {
    "mlflow": "vssl/tracking/mlflow.py",
    "decord": "vssl/data/decoders/decord.py",
    "torchcodec": "vssl/data/decoders/torchcodec.py",
    "av": "vssl/data",
    "rich": "vssl/report",
    "requests": "vssl/data/fetch.py",
    "urllib3": "vssl/data/fetch.py",
    "scipy": "vssl/report/statistics.py",
    "pandas": ("vssl/report/results.py", "vssl/__init__.py"),
    "omegaconf": tuple(
        f"vssl/{name}"
        for name in ("compat", "pipeline", "rehearsal", "preflight", "options", "commands", "cli", "tuning")
    ),
}
LONGEST = 40
FILES = sorted((ROOT / "vssl").rglob("*.py"))
PRIVATE_HOME = "vssl/compat"
PUBLIC_ALL_THE_SAME = {"_asdict", "_fields", "_replace", "_exit"}


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


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "hydra_plugins").glob("*.py"))], ids=str)
def test_private_parts_of_other_libraries_have_one_home(path):
    """Imports of private names, and private attributes of what is not one's own class."""
    if path.parent == ROOT / PRIVATE_HOME:
        return
    for module in imports(path):
        library, *parts = module.split(".")
        assert library == "vssl" or not any(is_private(part) for part in parts), module
    tree = ast.parse(path.read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    own = defined | PUBLIC_ALL_THE_SAME
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_own(node)}
    foreign = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own
    ]
    assert not foreign


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < LONGEST, f"{node.name} has more than {LONGEST} lines"


def is_own(node):
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def is_private(name):
    return name.startswith("_") and not name.endswith("_")
