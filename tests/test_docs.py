"""docs/recipes.md is what docs/recipes.py makes of conf/, and nothing that a recipe says is left out."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from omegaconf import OmegaConf

import chromium
from conftest import ROOT


def script(name):
    spec = spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where its dataclass looks for the types of its fields
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date():
    made = script("recipes").page()
    assert (ROOT / "docs" / "recipes.md").read_text() == made, "run: python docs/recipes.py"


@pytest.mark.browser
@pytest.mark.skipif(chromium.find() is None, reason="no Chromium here (apt-get install chromium)")
@pytest.mark.parametrize("page", ["cep", "videomoco"])
def test_the_longest_formulas_fit_on_a_phone(page, tmp_path):
    filled = script("pages").filled((ROOT / "docs" / "methods" / f"{page}.md").read_text())
    formulas = re.findall(r"^<div.*</math></div>$", filled, re.MULTILINE)
    style = (ROOT / "docs" / "site.css").read_text()
    (tmp_path / "page.html").write_text("".join([f"<meta charset=utf-8><style>{style}</style>", *formulas]))
    with chromium.Chromium() as browser:
        browser.open(tmp_path / "page.html", width=390)
        assert browser.run("document.querySelectorAll('math').length") == len(formulas) > 0
        assert browser.run("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("experiment", ["standard", "as_paper", "as_released"])
def test_it_has_every_option_that_a_rule_states(experiment):
    """But for the toy, and pretexts of which no recipe was published."""
    listed = set(re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs" / "recipes.md").read_text(), re.MULTILINE))
    for rule in OmegaConf.load(ROOT / "conf" / "experiment" / f"{experiment}.yaml").rules:
        if rule.when.get("backbone") != "tiny" and "speednet" not in rule.when.get("pretext", []):
            assert stated(OmegaConf.to_container(rule.set)) <= listed, rule


def stated(node, path=""):
    """Options that have a value in a rule; those of schedules without what all of them have."""
    if isinstance(node, str) and (changed := re.fullmatch(r"\$\{with:.*,\{(\w+):\w+\}\}", node)):
        return {f"{path}.{changed[1]}"}
    if not isinstance(node, dict):
        return {path}
    own = {"_target_", "warmup_epochs", "warmup_factor", "per"} if "schedule" in path else {"_target_"}
    return {
        one
        for name, value in node.items()
        if name not in own
        for one in stated(value, f"{path}.{name}".lstrip("."))
    }
