"""Writes outputs/docs, the pages of the site: those in docs/, filled in from the rest of the project.

In a page, `<!-- options pretext=vspp -->` becomes a table of that choice's options, `<!-- options -->` the
tables of all, `<!-- recipe VSPP -->` the table below that heading of recipes.md, and `<!-- toy pretext -->`
the files of that toy in tests/test_toys.py. Formulas between dollars become MathML, which browsers show
without a script.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import yaml
from latex2mathml.converter import convert

DOCS = Path(__file__).parent
ROOT = DOCS.parent
MADE = ROOT / "outputs/docs"
CONF = ROOT / "conf"

FROM_ROOT = {
    "benchmarks.md": "BENCHMARKS.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}

BELOW = {
    "augmentation": "...augmentation",
    "training": "...training",
    "optimizer": "...training.optimizer",
    "schedule": "...training.schedule",
}
"""Where the options of groups stand that several stages have."""

NO_OPTIONS = {"experiment", "sweeps"}
"""Groups whose files set options of others."""

UNSAID = {"hydra", "_target_"}
HIDDEN = re.compile("hydra|_global_")
"""What no user chooses."""


class Option(NamedTuple):
    """An option as it is typed, its value as the yaml has it, and what comments say of it."""

    path: str
    value: str
    comment: str


def main() -> None:
    """Write all pages, filled in, below outputs/docs."""
    shutil.rmtree(MADE, ignore_errors=True)
    shutil.copytree(DOCS, MADE, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name, source in FROM_ROOT.items():
        (MADE / name).write_text(_from_root((ROOT / source).read_text()))
    for page in MADE.rglob("*.md"):
        page.write_text(filled(_into_site(page.read_text())))


def _from_root(text: str) -> str:
    """A page of the root, whose links into docs/ lose the folder."""
    for other, path in FROM_ROOT.items():
        text = text.replace(f"]({path}", f"]({other}")
    return text.replace("](docs/", "](")


def _into_site(text: str) -> str:
    """A page of docs/, whose links to pages of the root lead to those of the site."""
    for name, source in FROM_ROOT.items():
        text = text.replace(f"](../{source}", f"]({name}")
    return text


def filled(page: str) -> str:
    """A page with its tables and formulas; in code there are none."""
    page = page.replace("<!-- options -->", "\n".join(all_tables()))
    for name, make in MARKS.items():
        page = re.sub(rf"<!-- {name} (.+?) -->", lambda found, make=make: make(found[1]), page)
    parts = re.split(r"(^```.*?^```|^ {4}[^\n]*$|`[^`\n]*`)", page, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if number % 2 else _formulas(part) for number, part in enumerate(parts))


def _formulas(text: str) -> str:
    shown = re.sub(r"\$\$(.+?)\$\$", lambda found: _mathml(found[1], "block"), text, flags=re.DOTALL)
    return re.sub(r"\$([^$\n]+?)\$", lambda found: _mathml(found[1], "inline"), shown)


def _mathml(formula: str, display: str) -> str:
    made: str = convert(" ".join(formula.split()), display=display)
    # At the beginning of a line, Markdown would take a bare formula for a block.
    return f'<div class="formula">{made}</div>' if display == "block" else f"<span>{made}</span>"


def all_tables() -> Iterator[str]:
    """The groups and options of config.yaml, and the options of each choice of each group."""
    yield f"## Everywhere\n\n{_table(CONF / 'config.yaml', '')}"
    for group in sorted(path for path in CONF.iterdir() if path.is_dir() and path.name not in NO_OPTIONS):
        yield f"## {group.name}\n"
        for file in sorted(group.rglob("*.yaml")):
            choice = file.relative_to(group).with_suffix("")
            yield f"### `{group.name}={choice}`\n\n{table(group.name, str(choice))}"


def choice(named: str) -> str:
    """The options of a choice such as `pretext=vspp`."""
    return table(*named.split("="))


def table(group: str, choice: str) -> str:
    """The options of one choice, below what its file says of itself."""
    return _table(CONF / group / f"{choice}.yaml", BELOW.get(group, group))


def _table(file: Path, prefix: str) -> str:
    head = " ".join(line.lstrip("# ") for line in takewhile(_is_comment, file.read_text().splitlines()))
    rows = [
        f"| `{path}` | {_code(value)} | {_cell(comment)} |" for path, value, comment in options(file, prefix)
    ]
    shown = ["| option | default | |", "|---|---|---|", *rows] if rows else []
    return "\n".join([head, "", *shown, ""])


def options(file: Path, prefix: str) -> list[Option]:
    """All leaves of a yaml file, in its order; first the groups that it is made of."""
    text = file.read_text()
    node = yaml.compose(text)
    return list(_leaves(node, prefix, text)) if isinstance(node, yaml.MappingNode) else []


def _leaves(node: yaml.MappingNode, path: str, text: str) -> Iterator[Option]:
    for key, value in node.value:
        if key.value == "defaults" and isinstance(value, yaml.SequenceNode):
            yield from _groups(value, path, text)
        elif key.value not in UNSAID:
            name = f"{path}.{key.value}" if path else key.value
            is_parent = isinstance(value, yaml.MappingNode) and bool(value.value) and not value.flow_style
            comment = _comment(key, key if is_parent else value, text)
            if comment or not is_parent:
                yield Option(name, "" if is_parent else _written(value, text), comment)
            if is_parent:
                yield from _leaves(value, name, text)


def _groups(defaults: yaml.SequenceNode, path: str, text: str) -> Iterator[Option]:
    """What a defaults list chooses of other groups."""
    for entry in defaults.value:
        if isinstance(entry, yaml.MappingNode) and not HIDDEN.search(_written(entry, text)):
            ((key, value),) = entry.value
            group, _, package = key.value.removeprefix("override ").lstrip("/").partition("@")
            place = f"{path}.{package}" if path and package not in {"", "_global_"} else package
            yield Option(
                f"{group}@{place}" if place else group, _written(value, text), _comment(key, value, text)
            )


def _written(node: yaml.Node, text: str) -> str:
    return " ".join(text[node.start_mark.index : node.end_mark.index].split())


def _comment(key: yaml.Node, last: yaml.Node, text: str) -> str:
    """Lines above an option in its own column, and what stands behind its value and goes on further right."""
    lines, indent = [*text.splitlines(), ""], key.start_mark.column
    above = list(
        takewhile(
            lambda line: _is_comment(line) and line.index("#") == indent, lines[: key.start_mark.line][::-1]
        )
    )
    behind = re.search(r"\s#.*", lines[last.end_mark.line][last.end_mark.column :])
    below = takewhile(
        lambda line: _is_comment(line) and line.index("#") > indent, lines[last.end_mark.line + 1 :]
    )
    said = (
        [] if len(above) == key.start_mark.line else above[::-1]
    )  # the head of the file is not the first option's
    said += [behind[0], *below] if behind else []
    return " ".join(line.strip().lstrip("# ") for line in said)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _code(value: str) -> str:
    return f"`{value}`".replace("|", "\\|") if value else ""


def _cell(comment: str) -> str:
    return comment.replace("|", "\\|").replace("<", "&lt;")


def recipe(heading: str) -> str:
    """The table below a heading of recipes.md."""
    text = (ROOT / "docs/recipes.md").read_text()
    found = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise KeyError(f"docs/recipes.md has no heading '{heading}'")
    return found[1].strip()


def toy(kind: str) -> str:
    """The files of a kind, which a test adds to a copy of the project and runs."""
    tree = ast.parse((ROOT / "tests/test_toys.py").read_text())
    made = next(node for node in tree.body if isinstance(node, ast.Assign) and _names(node) == ["TOYS"])
    files = ast.literal_eval(made.value)[kind]
    return "\n\n".join(_block(path, dedent(text).strip()) for path, text in files.items())


def _names(node: ast.Assign) -> list[str]:
    return [target.id for target in node.targets if isinstance(target, ast.Name)]


def _block(path: str, text: str) -> str:
    return f'``` {{.{Path(path).suffix[1:]} title="{path}"}}\n{text}\n```'


MARKS = {"options": choice, "recipe": recipe, "toy": toy}

if __name__ == "__main__":
    main()
