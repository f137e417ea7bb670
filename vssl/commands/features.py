"""mode=features stage=KEY source=...: the features of all videos of a data set, for use elsewhere.

`python launch.py mode=features stage=KEY source=ucf101 source.root=DIR`
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vssl.data.index import checked
from vssl.engine.cost import CostMeter
from vssl.engine.loader import evaluation_batches
from vssl.engine.runtime import Runtime
from vssl.pipeline import PLACES, plain
from vssl.report.progress import Progress
from vssl.stage.build import build
from vssl.stage.features import build_features, describe, protocol, to_arrays
from vssl.stage.parts import build_dataset, write_arrays
from vssl.stage.saved import expected_input, find, load_saved, read_recipe
from vssl.stage.spec import StageSpec, data_name

PLANNED = False

Node = dict[str, Any]


def execute(cfg: DictConfig) -> None:
    """Write features_VD, labels_V, names, class_names and protocol (JSON) as one npz file; print where."""
    folder = find(cfg.stage, Path(cfg.outputs))
    spec = _spec(cfg, read_recipe(folder))
    runtime: Runtime = build(plain(cfg.runtime), "runtime")
    features, cost = build_features(spec), CostMeter(runtime.torch_device())
    dataset, backbone = build_dataset(spec, features), load_saved(folder, Path(cfg.outputs))
    with Progress("features", spec.clips) as progress:
        batches = evaluation_batches(dataset, spec.recipe["batch_size"], runtime.loading(), cost)
        described = describe(batches, dataset.augmentation, features, backbone, runtime, progress.advance)
    about = {**protocol(spec, described, backbone), "weights": spec.recipe["weights"]}
    name = f"{data_name(spec.recipe['data'])}-{spec.key[:8]}.npz"
    path = Path(cfg.outputs) / "features" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, {**to_arrays(described, dataset), "protocol": json.dumps(about)})
    print(f"{len(dataset)} videos x {described.features_VD.shape[1]} features: {path}")


def _spec(cfg: DictConfig, trained: Node) -> StageSpec:
    """The work as a stage. Clips are of the size and in the range that the weights were trained on."""
    node, source = plain(cfg.features), plain(cfg.source)
    source = checked(source) if "index" in source else source
    given = expected_input(trained)
    sampler = {**node["sampler"], "num_frames": given.pop("num_frames")}
    recipe = {
        "task": {"_target_": node["_target_"], "feature": node["feature"], "sampler": sampler},
        "augmentation": {**node["augmentation"], **given},
        "batch_size": node["batch_size"],
        "backbone": trained["backbone"],
        "data": {key: value for key, value in source.items() if key not in PLACES} | {"repeat": 1},
        "seed": trained["seed"],
        "weights": f"{trained['stage']}/{trained['key']}",
    }
    places = {key: source[key] for key in PLACES if key in source}
    return StageSpec("features", recipe, None, places, clips=source["num_videos"] * sampler["num_clips"])
