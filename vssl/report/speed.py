"""How fast finished stages were, from the store alone."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vssl.result import StageResult
from vssl.stage.spec import StageSpec, content_hash
from vssl.stage.store import StageStore

Group = tuple[str, str]
"""What stages are compared by: their name, and their backbone."""


@dataclass(frozen=True)
class Speed:
    """Clips per second of finished stages, the GPUs that each of them used, and the device (cpu, or a GPU's
    name).

    loader_cores: cores that load for one process and never let it wait: the processor time of loading, by the
    time that was not spent waiting.
    """

    clips_per_s: float
    gpus: float
    device: str
    loader_cores: float


def group(spec: StageSpec) -> Group:
    """The group of a stage."""
    return spec.name, content_hash(spec.recipe.backbone)


def speeds(store: StageStore, groups: Iterable[Group]) -> dict[Group, Speed]:
    """The mean speed of the finished stages of each group, on the device that the latest ran on."""
    wanted = set(groups)
    found: dict[Group, list[tuple[float, StageResult]]] = defaultdict(list)
    for name in {name for name, _ in wanted}:
        for stage in store.finished(name):
            if group(stage.spec) in wanted and stage.finished.cost.clips:
                ended = (stage.folder / "result.json").stat().st_mtime
                found[group(stage.spec)].append((ended, stage.finished))
    return {one: _mean(dated) for one, dated in found.items()}


def _mean(dated: Sequence[tuple[float, StageResult]]) -> Speed:
    """Of processes that share a stage, each needs its part of the cores that load."""
    _, latest = max(dated, key=lambda one: one[0])
    costs = [result.cost for _, result in dated if _device(result) == _device(latest)]
    seconds = sum(cost.seconds for cost in costs)
    loading = sum(cost.loader_seconds / max(1, cost.gpus) for cost in costs)
    return Speed(
        clips_per_s=sum(cost.clips for cost in costs) / seconds,
        gpus=sum(cost.gpus * cost.seconds for cost in costs) / seconds,
        device=_device(latest),
        loader_cores=loading / sum(cost.seconds - cost.waiting_seconds for cost in costs),
    )


def _device(result: StageResult) -> str:
    """A GPU by its name, as others are faster or slower; older results say only `cuda`."""
    kind, _, name = str(result.provenance["device"]).partition(", ")
    return name or kind.partition(":")[0]
