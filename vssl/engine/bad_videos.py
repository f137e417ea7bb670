"""How many videos of a training could not be read and were replaced, and when that is too many."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vssl import distributed
from vssl.engine.loader import Steps
from vssl.errors import VsslError
from vssl.files import write_atomically
from vssl.types import Batch
from vssl.video import Video

NAMED = 20
"""Videos that an error message names."""

Found = tuple[int, int, str]
"""Step (from 0) and sample whose video was bad, and the video's name."""


class BadVideos:
    """The samples of a training whose video was replaced (`bad_video` of a batch).

    They are kept in `folder`/bad_videos.json, so that a training that goes on from step `start` counts what
    was before it.
    """

    def __init__(
        self, folder: Path, videos: Sequence[Video], steps: Steps, start: int, max_share: float
    ) -> None:
        self.path = folder / "bad_videos.json"
        self.videos, self.steps, self.start, self.max_share = videos, steps, start, max_share
        kept = json.loads(self.path.read_text()) if self.path.exists() else []
        self.found: list[Found] = [(step, index, name) for step, index, name in kept if step < start]

    def watch(self, batches: Iterator[list[Batch]]) -> Iterator[list[Batch]]:
        """Pass on this rank's batches of all steps from `start`; what is bad on any rank counts.

        Raises `VsslError` with the videos once more than `max_share` of an epoch's samples had a bad one.
        """
        for step, micro_batches in enumerate(batches, self.start):
            found = [at for batch in micro_batches for at in self._bad(batch, step)]
            if distributed.any_rank(bool(found))[0]:
                self.found += [at for others in distributed.all_gather_object(found) for at in others]
                if distributed.rank() == 0:
                    write_atomically(self.path, json.dumps(self.found, indent=1))
                self._check(self._epoch(step))
            yield micro_batches

    def _bad(self, batch: Batch, step: int) -> Iterator[Found]:
        for index, bad in zip(batch["index"].tolist(), batch["bad_video"].tolist(), strict=True):
            if bad >= 0:
                yield step, index, self.videos[bad].name

    def _epoch(self, step: int) -> int:
        return step // self.steps.per_epoch + 1

    def _check(self, epoch: int) -> None:
        summary, samples = self.summary(), self.steps.num_samples
        count, names = summary["per_epoch"].get(str(epoch), 0), summary["names"]
        if count > self.max_share * samples:
            more = f" and {len(names) - NAMED} more (bad_videos.json)" if len(names) > NAMED else ""
            raise VsslError(
                f"{count} of the {samples} samples of epoch {epoch} had a video that cannot be read, more "
                f"than runtime.max_bad_share={self.max_share:g}: {', '.join(names[:NAMED])}{more}; log.txt "
                "tells the causes: mend these files, or leave them out and run mode=check again"
            )

    def summary(self) -> dict[str, Any]:
        """For the result: samples with a bad video by epoch (from 1), and the videos."""
        counts = Counter(self._epoch(step) for step, _, _ in self.found)
        per_epoch = {str(epoch): count for epoch, count in sorted(counts.items())}
        return {"per_epoch": per_epoch, "names": sorted({name for _, _, name in self.found})}
