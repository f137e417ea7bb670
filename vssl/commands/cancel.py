"""mode=cancel: take the Slurm jobs of these stages back. What runs saves its state first."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from vssl.dispatch.cluster import Slurm
from vssl.dispatch.records import JobRecords
from vssl.pipeline import Point, merge


def execute(points: Sequence[Point], cfg: DictConfig) -> None:
    """Cancel every job that waits or runs for one of the stages, and no other."""
    records, slurm = JobRecords(Path(cfg.outputs)), Slurm()
    forest = merge(point.chain for point in points)
    submitted = [(spec, record) for spec in forest if (record := records.read(spec.key))]
    jobs = slurm.jobs() if submitted else {}
    alive = [(spec, record) for spec, record in submitted if record.id in jobs and jobs[record.id].alive]
    slurm.cancel([record.id for _, record in alive])
    for spec, record in alive:
        records.write(spec.key, replace(record, cancelled=True))
        print(f"{spec.name} {spec.key}: job {record.id} cancelled")
    print(f"{len(alive)} jobs cancelled; the same command without mode=cancel submits them again")
