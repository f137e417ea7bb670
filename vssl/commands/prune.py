"""mode=prune: what lies in outputs, by kind, and what of it nothing needs; `prune.apply=true` removes that.

`python launch.py mode=prune`, or with a sweep: `python launch.py +sweeps=table3 seed=0,1,2 mode=prune`
"""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from vssl import options
from vssl.dispatch.cluster import Slurm
from vssl.dispatch.records import JobRecords
from vssl.errors import OptionError, VsslError
from vssl.files import write_atomically
from vssl.pipeline import Point, merge
from vssl.stage.needed import Spare, keys_of, spare_files
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore, is_claimed
from vssl.words import count

NEEDED = "needed.json"
"""Below outputs: keys of stages by the sweep that was given with this mode."""

OF_STAGES = {
    "weights.pt": "weights",
    "checkpoint.pt": "checkpoints",
    "features.npz": "features",
    "preview.png": "previews",
    "log.txt": "logs",
    "result.json": "results",
    "metrics.jsonl": "results",
    "predictions.npz": "results",
    "neighbours.npz": "results",
    "recipe.yaml": "results",
}
"""Kinds of the files in a stage's folder."""

PLACES = {
    **{"converted": "weights", "export": "weights", "features": "features", "preview": "previews"},
    **{"jobs": "logs", "launches": "logs", "index": "index", "data": "synthetic videos", "report": "reports"},
    **{"mlflow.db": "mlflow", "mlartifacts": "mlflow", "mlruns": "mlflow"},
}
"""Kinds of what lies beside the stages."""


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """List all, then what can go; remove it if asked."""
    asked: options.Prune = options.read(cfg, "prune")
    outputs, forest = Path(cfg.outputs), merge(point.chain for point in points)
    if asked.others and len(points) == 1:
        remedy = "give the sweep that is needed (+sweeps=NAME seed=0,1,2), or -m and several values"
        raise OptionError("prune.others", True, "a single point is given", remedy)
    store = StageStore(outputs)
    _check_jobs(outputs, store)
    needed = _note_needed(outputs, cfg, forest) if len(points) > 1 else _noted(outputs)
    keys = keys_of(forest).union(*needed.values()) if asked.others else None
    sheets = [path for path in sorted((outputs / "preview").rglob("*")) if path.is_file()]
    spare = [*spare_files(store, forest, keys), *(Spare(path, "previews") for path in sheets)]
    _list(outputs, spare)
    if asked.others:
        print("needed:", ", ".join(f"{name} ({count(len(one), 'stage')})" for name, one in needed.items()))
    if not asked.apply:
        print("nothing was removed; prune.apply=true removes what can go")
        return
    removed = [size for one in spare if (size := _remove(one.path)) is not None]
    print(f"removed: {count(len(removed), 'file')}, {_words(sum(removed))}")


def _check_jobs(outputs: Path, store: StageStore) -> None:
    """Refuse while Slurm has jobs whose stages have not begun: what they need nobody knows here."""
    records = JobRecords(outputs)
    unknown = set(records.keys()) - {path.parent.name for path in store.root.glob("*/*/recipe.yaml")}
    jobs = Slurm().jobs() if unknown else {}
    alive = [key for key in unknown if (one := records.read(key)) and one.id in jobs and jobs[one.id].alive]
    if alive:
        raise VsslError(
            f"mode=prune: Slurm has jobs whose stages have not begun ({len(alive)}), so that what they need "
            "is not known; wait, or take them back with mode=cancel"
        )


def _noted(outputs: Path) -> dict[str, list[str]]:
    path = outputs / NEEDED
    try:
        noted: dict[str, list[str]] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise VsslError(f"{path}: not JSON ({error}); delete it, and give each sweep once more") from error
    return noted


def _note_needed(outputs: Path, cfg: DictConfig, forest: Sequence[StageSpec]) -> dict[str, list[str]]:
    """Add the stages of this launch to those that are needed; they stay until the file is deleted."""
    noted = _noted(outputs)
    name = str(cfg.sweep.name) if "sweep" in cfg else "-m"
    noted[name] = sorted({*noted.get(name, []), *keys_of(forest)})
    if outputs.is_dir():
        write_atomically(outputs / NEEDED, json.dumps(noted, indent=1))
    return noted


def _list(outputs: Path, spare: Sequence[Spare]) -> None:
    can_go = {one.path for one in spare}
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for path in (Path(place, name) for place, _, names in os.walk(outputs) for name in names):
        size, total = _size(path), totals[_kind(path.relative_to(outputs))]
        total[0] += 1
        total[1] += size
        total[2] += size if path in can_go else 0
    print(f"{outputs}\n{'kind':<18}{'files':>9}{'size':>12}{'can go':>12}")
    for kind, (files, size, goes) in sorted(totals.items(), key=lambda item: -item[1][1]):
        print(f"{kind:<18}{files:>9,}{_words(size):>12}{_words(goes):>12}")
    files, size, goes = (sum(total[column] for total in totals.values()) for column in range(3))
    print(f"{'all':<18}{files:>9,}{_words(size):>12}{_words(goes):>12}")
    for why in dict.fromkeys(one.why for one in spare):
        sizes = [_size(one.path) for one in spare if one.why == why]
        print(f"can go: {count(len(sizes), 'file')}, {_words(sum(sizes))}: {why}")


def _kind(path: Path) -> str:
    if path.parts[0] == "stages":
        return OF_STAGES.get(path.name, "other")
    return PLACES.get(path.parts[0], "other")


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # gone in the meantime
        return 0


def _remove(path: Path) -> int | None:
    """Remove a file and return its size; None if somebody works on its stage now."""
    if is_claimed(path.parent):
        return None
    size = _size(path)
    path.unlink(missing_ok=True)
    return size


def _words(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
