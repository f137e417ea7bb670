"""mode=export stage=KEY: a backbone for use elsewhere, as safetensors with a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from safetensors.torch import save

import vssl
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.stage.saved import CONFIG, EXPORTED, FORMAT, expected_input, load_saved, with_weights
from vssl.stage.spec import StageSpec, class_name
from vssl.stage.store import StageStore, StoredStage, to_yaml
from vssl.stage.weights import num_parameters
from vssl.types import Backbone

PLANNED = False


def execute(cfg: DictConfig) -> None:
    """Write `model.safetensors`, `config.json` and the model card `README.md`, and print where."""
    outputs = Path(cfg.outputs)
    if cfg.stage is not None and (Path(str(cfg.stage)) / EXPORTED).exists():
        raise VsslError(f"stage={cfg.stage}: is exported already; give the key of a stage")
    store = StageStore(outputs)
    stage = with_weights(store.open(cfg.stage))
    spec, backbone = stage.spec, load_saved(stage.folder, outputs)
    target = Path(cfg.export.out or outputs / "export" / f"{spec.name}-{spec.key}")
    target.mkdir(parents=True, exist_ok=True)
    write_atomically(target / EXPORTED, save({k: v.contiguous() for k, v in backbone.state_dict().items()}))
    write_atomically(target / CONFIG, json.dumps(_config(spec), indent=2) + "\n")
    write_atomically(target / "README.md", model_card(stage, store, backbone))
    print(f"{spec.name} {spec.key}: {target}")


def _config(spec: StageSpec) -> dict[str, Any]:
    """What `vssl.load_backbone` needs, and what has to be known of the input."""
    names = {"stage": spec.name, "key": spec.key, "backbone": spec.recipe.backbone}
    return {"format": FORMAT, **names, "input": expected_input(spec.recipe), "vssl": vssl.__version__}


def model_card(stage: StoredStage, store: StageStore, backbone: Backbone) -> str:
    """Markdown: what it is, how to load it, what its tests gave, and the recipe of every stage behind it."""
    spec, commit = stage.spec, stage.finished.provenance["git_commit"]
    parts = [
        f"# {class_name(spec.recipe.backbone)}, {spec.name} {spec.key}",
        f"A video backbone of {num_parameters(backbone):,} parameters, from a clip to {backbone.feature_dim} "
        f"features. Trained by vssl {vssl.__version__} (commit {commit}): "
        f"{'; '.join(map(_words, spec.chain))}.",
        "## Use",
        _usage(expected_input(spec.recipe)),
        "## Results",
        _results(spec, store),
        "## Recipe",
        *(f"```yaml\n{to_yaml(one.to_plain())}```" for one in spec.chain),
    ]
    return "\n\n".join(parts) + "\n"


def _words(spec: StageSpec) -> str:
    recipe = spec.recipe
    videos = f"{recipe.data['num_videos']:,} videos of {recipe.data_name}"
    return f"{spec.name} ({class_name(recipe.task)}) on {videos}, {recipe.epochs} epochs"


def _usage(given: dict[str, Any]) -> str:
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


def _results(spec: StageSpec, store: StageStore) -> str:
    """A table of all tests in the store that rest on these weights."""
    rows = [_row(test) for test in store.finished("test") if spec in test.spec.chain]
    header = "| test | protocol | videos | result in percent |\n|---|---|---|---|"
    return "\n".join([header, *rows]) if rows else "No test of it was run."


def _row(test: StoredStage) -> str:
    result, spec = test.finished, test.spec
    protocol, judged = result.protocol, spec.chain[-2]
    if judged.kind.trains:
        how = f"{_words(judged)}, {protocol['average']} averaged"
    else:
        gallery = spec.chain[-3].recipe.data_name
        how = f"{class_name(spec.recipe.task)} in {gallery}, features: {protocol['feature']}"
    videos = f"{protocol['test_videos']:,} of {spec.recipe.data_name}"
    clips = f"{protocol['clips_per_video']} clips each, {protocol.get('test_crop', 'centre')} crop"
    numbers = ", ".join(f"{name} {100 * value:.1f}" for name, value in result.metrics.items())
    return f"| {spec.key} | {how}, seed {spec.recipe.seed} | {videos}, {clips} | {numbers} |"
