"""mode=sync: bring the tracker up to date with the stage folders: after an outage, or from nodes that cannot
reach it (they run with tracking=jsonl).

All stages under `outputs/stages` are mirrored, whatever launch they came from. What the tracker has is
not sent again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from vssl.pipeline import describe
from vssl.stage.build import build
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore, is_claimed
from vssl.tracking.metrics import StageFolder, Tracker

PLANNED = False


def execute(cfg: DictConfig) -> None:
    """Mirror every stage but those that run now, which mirror themselves. A tracker that cannot be reached
    raises `VsslError`."""
    node: dict[str, Any] = OmegaConf.to_container(cfg.tracking, resolve=True)  # type: ignore[assignment]
    tracker: Tracker = build(node, "tracking")
    store = StageStore(Path(cfg.outputs))
    folders = sorted(path.parent for path in store.root.glob("*/*/recipe.yaml"))
    for folder in folders:
        _mirror(folder, tracker)
    print(f"{len(folders)} stages in {store.root}\ntracking: {tracker.where()}")


def _mirror(folder: Path, tracker: Tracker) -> None:
    stage = _stage(folder)
    if (folder / "result.json").exists():
        tracker.sync(stage, "finished")
    elif not is_claimed(folder):
        tracker.sync(stage, "failed" if (folder / "failed.json").exists() else "running")


def _stage(folder: Path) -> StageFolder:
    """A stage as the tracker sees it; where it ran is known once it is done."""
    name, key = folder.parts[-2:]
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    tags = {"what": describe(StageSpec(name, recipe))}
    result = folder / "result.json"
    origin = json.loads(result.read_text())["provenance"] if result.exists() else {}
    tags |= {tag: origin[tag] for tag in ("git_commit", "host") if tag in origin}
    return StageFolder(name, key, folder, tags)
