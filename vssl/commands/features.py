"""mode=features stage=KEY source=...: the features of all videos of a data set, for use elsewhere.

`python launch.py mode=features stage=KEY source=ucf101 source.root=DIR`
"""

import json
from pathlib import Path

from omegaconf import DictConfig

from vssl.checks import make_folder
from vssl.engine.cost import CostMeter
from vssl.engine.runtime import Runtime
from vssl.pipeline import Chain, plain
from vssl.report.progress import Progress
from vssl.stage.build import build
from vssl.stage.construct import Machine, Stage
from vssl.stage.features import describe_stage, protocol, to_arrays
from vssl.stage.kind import FEATURES
from vssl.stage.saved import expected_input, for_input, load_saved, with_weights
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore
from vssl.stage.weights import write_arrays

PLANNED = False


def execute(cfg: DictConfig) -> None:
    """Write features_VD, labels_V, names, class_names and protocol (JSON) as one npz file; print where."""
    outputs = Path(cfg.outputs)
    trained = with_weights(StageStore(outputs).open(cfg.stage))
    stage = Stage(_spec(cfg, trained.spec))
    runtime: Runtime = build(plain(cfg.runtime), "runtime")
    stage.check(Machine())
    stage.source.prepare()
    backbone = load_saved(trained.folder, outputs)
    with Progress("features", stage.clips) as progress:
        cost = CostMeter(runtime.torch_device())
        features = describe_stage(stage, backbone, runtime, cost, progress.advance)
    about = {**protocol(stage, features, backbone), "weights": f"{trained.spec.name}/{trained.spec.key}"}
    name = f"{stage.recipe.data_name}-{stage.spec.key[:8]}.npz"
    path = Path(cfg.export.out or outputs / "features") / name
    make_folder("export.out", path.parent)
    write_arrays(path, {**to_arrays(features, stage.dataset), "protocol": json.dumps(about)})
    print(f"{len(stage.dataset)} videos x {features.features_VD.shape[1]} features: {path}")


def _spec(cfg: DictConfig, trained: StageSpec) -> StageSpec:
    """The work as a stage. Clips are of the size and in the range that the weights were trained on."""
    features, given = plain(cfg.features), expected_input(trained.recipe)
    features["sampler"]["num_frames"] = given["num_frames"]
    features["augmentation"] = for_input(features["augmentation"], given)
    inherited = {"backbone": trained.recipe.backbone, "seed": trained.recipe.seed}
    chain = Chain({"features": features, "source": plain(cfg.source), **inherited}, False, [trained])
    chain.add("features", FEATURES, "features", "source")
    return chain.stages[-1]
