"""What a visitor of the repository relies on: that its templates and workflows name what there is."""

import re

import pytest
import yaml

import vssl
from conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PROJECT = (ROOT / "pyproject.toml").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_what_make_has(path):
    workflow = yaml.safe_load(path.read_text())
    assert set(workflow[True]) == {"push", "pull_request"}  # YAML reads `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    made = {word for step in steps for word in re.findall(r"make ([a-z-]+)", step.get("run", ""))}
    assert made
    assert made <= TARGETS


def test_there_are_workflows_for_lint_tests_and_docs():
    assert [path.stem for path in WORKFLOWS] == ["docs", "lint", "tests"]


def test_the_python_of_workflows_is_one_that_the_project_takes():
    least = re.search(r'requires-python = ">=3\.(\d+)"', PROJECT)[1]
    used = [one for path in WORKFLOWS for one in re.findall(r'python-version: "3\.(\d+)"', path.read_text())]
    assert min(map(int, used)) >= int(least)


def test_pre_commit_runs_what_make_lint_runs():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    [hook] = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert hook["entry"] == "make lint"
    assert not hook["pass_filenames"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_are_of_the_kind_that_github_shows(path):
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= set(form)
    ids = [part["id"] for part in form["body"]]
    assert len(ids) == len(set(ids))
    assert {part["type"] for part in form["body"]} == {"textarea"}
    modes = set(re.findall(r"mode=(\w+)", path.read_text()))
    assert all((ROOT / "vssl" / "commands" / f"{mode}.py").exists() for mode in modes)


def test_a_bug_asks_for_command_log_and_info():
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text())
    needed = {part["id"] for part in form["body"] if part["validations"]["required"]}
    assert {"command", "log", "info"} <= needed


def test_the_citation_has_the_version_and_licence_of_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format demands
    assert citation["version"] == vssl.__version__
    assert f'license = "{citation["license"]}"' in PROJECT
    [paper] = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert [author["family-names"] for author in paper["authors"]] == ["Dadashzadeh", "Whone", "Mirmehdi"]
