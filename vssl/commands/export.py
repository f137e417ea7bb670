"""mode=export stage=KEY: a backbone for use elsewhere, as safetensors with a model card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig
from safetensors.torch import save

import vssl
from vssl.engine.checkpoint import WEIGHTS
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.stage.parts import num_parameters
from vssl.stage.saved import CONFIG, EXPORTED, FORMAT, expected_input, find, load_saved, read_recipe
from vssl.stage.spec import class_name, data_name
from vssl.types import Backbone

PLANNED = False

Recipe = dict[str, Any]


def execute(cfg: DictConfig) -> None:
    """Write `model.safetensors`, `config.json` and the model card `README.md`, and print where."""
    folder = find(cfg.stage, Path(cfg.outputs))
    if not (folder / WEIGHTS).exists():
        raise VsslError(f"{folder}: is exported already")
    recipe, backbone = read_recipe(folder), load_saved(folder, Path(cfg.outputs))
    target = Path(cfg.export.out or Path(cfg.outputs) / "export" / f"{recipe['stage']}-{recipe['key']}")
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / EXPORTED, save({k: v.contiguous() for k, v in backbone.state_dict().items()}))
    write_atomically(target / CONFIG, json.dumps(_config(recipe), indent=2) + "\n")
    write_atomically(target / "README.md", model_card(folder, backbone))
    print(f"{recipe['stage']} {recipe['key']}: {target}")


def _config(recipe: Recipe) -> Recipe:
    """What `vssl.load_backbone` needs, and what has to be known of the input."""
    names = {"stage": recipe["stage"], "key": recipe["key"], "backbone": recipe["backbone"]}
    return {"format": FORMAT, **names, "input": expected_input(recipe), "vssl": vssl.__version__}


def model_card(folder: Path, backbone: Backbone) -> str:
    """Markdown: what it is, how to load it, what its tests gave, and the recipe of every stage behind it."""
    chain = _chain(folder)
    recipe, commit = chain[-1], _result(folder)["provenance"]["git_commit"]
    parts = [
        f"# {class_name(recipe['backbone'])}, {recipe['stage']} {recipe['key']}",
        f"A video backbone of {num_parameters(backbone):,} parameters, from a clip to {backbone.feature_dim} "
        f"features. Trained by vssl {vssl.__version__} (commit {commit}): {'; '.join(map(_words, chain))}.",
        "## Use",
        _usage(expected_input(recipe)),
        "## Results",
        _results(folder),
        "## Recipe",
        *(f"```yaml\n{yaml.safe_dump(one, sort_keys=False, width=110)}```" for one in chain),
    ]
    return "\n\n".join(parts) + "\n"


def _words(recipe: Recipe) -> str:
    data, epochs = recipe["data"], recipe["training"]["epochs"]
    videos = f"{data['num_videos']:,} videos of {data_name(data)}"
    return f"{recipe['stage']} ({class_name(recipe['task'])}) on {videos}, {epochs} epochs"


def _usage(given: Recipe) -> str:
    size, height_width = given["crop"], "x".join(map(str, given["resize"]))
    scaled = f", minus {given['mean']}, divided by {given['std']} (per channel)" if given["mean"] else ""
    return f"""```python
import vssl
backbone = vssl.load_backbone("FOLDER")  # this one; a torch module in evaluation mode
features_BD = backbone(clips_BCTHW)  # [B, 3, {given["num_frames"]}, {size}, {size}]
```

Clips are RGB frames, resized to {height_width}, of which {size}x{size} are cropped; values from 0 to \
{given["pixel_max"]:g}{scaled}. Without vssl, `safetensors.torch.load_file("{EXPORTED}")` gives the state \
dict."""


def _results(folder: Path) -> str:
    """A table of all tests in the store that rest on these weights."""
    rows = [_row(_result(test), chain) for test, chain in _tests(folder)]
    header = "| test | protocol | videos | result in percent |\n|---|---|---|---|"
    return "\n".join([header, *rows]) if rows else "No test of it was run."


def _row(result: Recipe, chain: list[Recipe]) -> str:
    protocol = result["protocol"]
    *_, judged, test = chain
    if "training" in judged:
        how = f"{_words(judged)}, {protocol['average']} averaged"
    else:
        how = f"{class_name(test['task'])} in {data_name(protocol['data'])}, features: {protocol['feature']}"
    videos = f"{protocol['test_videos']:,} of {data_name(protocol['test_data'])}"
    clips = f"{protocol['clips_per_video']} clips each, {protocol['test_crop']} crop"
    numbers = ", ".join(f"{name} {100 * value:.1f}" for name, value in result["metrics"].items())
    return f"| {result['key']} | {how}, seed {protocol['seed']} | {videos}, {clips} | {numbers} |"


def _tests(folder: Path) -> Iterator[tuple[Path, list[Recipe]]]:
    """Folders of the finished tests that come after the stage, each with the recipes that lead to it."""
    for path in sorted(folder.parent.parent.glob("test/*/result.json")):
        chain = _chain(path.parent)
        if folder.name in [recipe["key"] for recipe in chain]:
            yield path.parent, chain


def _chain(folder: Path) -> list[Recipe]:
    """The recipes of the stage and of those before it, the first one first."""
    recipe = read_recipe(folder)
    before = _chain(folder.parent.parent / recipe["parent"]) if recipe["parent"] else []
    return [*before, recipe]


def _result(folder: Path) -> Recipe:
    result: Recipe = json.loads((folder / "result.json").read_text())
    return result
