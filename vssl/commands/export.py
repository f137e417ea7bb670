"""mode=export stage=KEY: a backbone for use elsewhere, as safetensors with a model card."""

import json
from pathlib import Path

from omegaconf import DictConfig
from safetensors.torch import save

import vssl
from vssl.checks import check_folder, make_folder
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.report.formats import render
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
    check_folder("export.out", target.absolute())
    make_folder("export.out", target)
    write_atomically(target / EXPORTED, save({k: v.contiguous() for k, v in backbone.state_dict().items()}))
    names = {"format": FORMAT, "stage": spec.name, "key": spec.key, "vssl": vssl.__version__}
    needed = {**names, "backbone": spec.recipe.backbone, "input": expected_input(spec.recipe)}
    write_atomically(target / CONFIG, json.dumps(needed, indent=2) + "\n")
    write_atomically(target / "README.md", model_card(stage, store, backbone))
    print(f"{spec.name} {spec.key}: {target}")


def model_card(stage: StoredStage, store: StageStore, backbone: Backbone) -> str:
    """Markdown: what it is, how to load it, what its tests gave, and the recipe of every stage behind it."""
    spec = stage.spec
    return render(
        "model_card.md",
        {},
        spec=spec,
        name=class_name(spec.recipe.backbone),
        backbone=backbone,
        num_parameters=num_parameters(backbone),
        version=vssl.__version__,
        commit=stage.finished.provenance["git_commit"],
        stages=[_words(one) for one in spec.chain],
        input=expected_input(spec.recipe),
        weights=EXPORTED,
        results=[
            _row(test)
            for test in store.finished("test")
            if spec in test.spec.chain and not test.spec.recipe.is_candidate
        ],
        recipes=[to_yaml(one.to_plain()) for one in spec.chain],
    )


def _words(spec: StageSpec) -> str:
    recipe = spec.recipe
    videos = f"{recipe.num_videos:,} videos of {recipe.data_name}"
    return f"{spec.name} ({class_name(recipe.task)}) on {videos}, {recipe.epochs} epochs"


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
