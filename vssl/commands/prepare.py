"""mode=prepare: a copy of a data set that training reads fast; used by `source.root=DIR`.

`python launch.py mode=prepare source=ucf101 source.root=DIR prepare.out=DIR`
"""

import shlex
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from vssl import options
from vssl.checks import check_folder, make_folder
from vssl.data.decode import read_frames
from vssl.data.index import absolute, root_of
from vssl.data.journal import noting
from vssl.data.lists import printable, video_files
from vssl.data.pool import Lost, each
from vssl.data.prepare import JOURNAL, PreparedFormat, claimed, copy_lists, to_prepare, transcode_file
from vssl.data.probe import probe
from vssl.errors import OptionError, VsslError, as_typed
from vssl.files import write_atomically
from vssl.pipeline import plain
from vssl.report.progress import Progress
from vssl.stage.build import build, naming
from vssl.words import count

PLANNED = False

SAMPLE = 12
"""Videos whose reading is timed."""


def execute(cfg: DictConfig) -> None:
    """Prepare what is not there yet; raise `VsslError` if too many files fail."""
    root, out = _folders(cfg)
    limits: options.Check = options.read(cfg, "check")
    asked: options.Prepare = options.read(cfg, "prepare")
    look = PreparedFormat(asked.size or _needed_size(cfg), asked.crf, asked.gop)
    names = video_files(root)
    if not names:
        raise OptionError("source.root", root, "no video below it", "give the folder of the videos")
    make_folder("prepare.out", out)
    with claimed(out, look):
        failed = copy_lists(root, out) | _transcode(names, root, out, look, cfg)
    _report(names, failed, root, out)
    if len(failed) > limits.max_bad * len(names):
        raise VsslError(
            f"{len(failed):,} of {len(names):,} files could not be prepared (listed above); mend them, or "
            "accept the share with check.max_bad=... (all others are ready)"
        )


def _needed_size(cfg: DictConfig) -> int | list[int]:
    """The least size that the augmentations of the config lose nothing by: the largest of what they need."""
    nodes = [cfg[group].augmentation for group in ("pretext", "protocol") if "augmentation" in cfg[group]]
    crops = [build(plain(node), "augmentation").crop for node in nodes]
    sizes: list[int | list[int]] = [crop.prepared_size for crop in crops]
    size = max(sizes, key=lambda size: size if isinstance(size, int) else min(size))
    print(f"prepare.size={as_typed(size)}, which the crops of this pretext and protocol need")
    return size


def _folders(cfg: DictConfig) -> tuple[Path, Path]:
    if not cfg.prepare.out:
        raise OptionError("prepare.out", cfg.prepare.out, "no folder", "give the folder to write to")
    if "index" not in cfg.source:
        raise VsslError(
            "mode=prepare: synthetic videos are small already; name a data set: source=ucf101 source.root=DIR"
        )
    with naming("source"):
        root = root_of(cfg.source)
    out = absolute(cfg.prepare.out)
    if root == out or root in out.parents or out in root.parents:
        problem = f"must lie outside of source.root={root}"
        raise OptionError("prepare.out", out, problem, "choose another folder")
    check_folder("prepare.out", out)
    if not root.is_dir():
        raise OptionError("source.root", root, "no such folder", "give the folder of the videos")
    return root, out


def _transcode(
    names: Sequence[str], root: Path, out: Path, look: PreparedFormat, cfg: DictConfig
) -> dict[str, str]:
    """Why files failed, by name."""
    left, failed = to_prepare(names, root, out)
    tasks = ((name, root, out, look) for name in left)
    cpu_s, done = 0.0, len(names) - len(left)
    with (
        noting(out / JOURNAL) as note,
        Progress(f"prepare {cfg.source.name}", len(names), "files", done) as progress,
    ):
        outcomes = each(transcode_file, tasks, cfg.runtime.workers, cfg.prepare.timeout_s)
        for count, ((name, *_), result, seconds) in enumerate(outcomes, start=1):
            state, why = (None, f"{root / name}: {result.reason}") if isinstance(result, Lost) else result
            if state:
                note(name, state, why)
            if why:
                failed[name] = why
                (out / name).unlink(missing_ok=True)  # of what the file was before
            cpu_s += seconds
            progress.advance(1, **{"CPU s/file": cpu_s / count})
    return failed


def _report(names: Sequence[str], failed: dict[str, str], root: Path, out: Path) -> None:
    lines = [printable(failed[name]) for name in sorted(failed)]
    for line in lines:
        print(f"failed: {line}")
    write_atomically(out / ".failed.txt", "".join(f"{line}\n" for line in lines))
    # A link may lead nowhere since its video was prepared.
    ready = [name for name in names if name not in failed and (root / name).is_file()]
    if not ready:
        return
    was, now = (sum((folder / name).stat().st_size for name in ready) / 1e6 for folder in (root, out))
    print(f"{count(len(ready), 'video')}: {was:,.1f} MB before, {now:,.1f} MB now")
    chosen = [ready[n] for n in np.unique(np.linspace(0, len(ready) - 1, SAMPLE).astype(int))]
    lengths = {name: probe(out / name).frames for name in chosen}
    was, now = (_clip_ms(folder, lengths) for folder in (root, out))
    print(f"reading 16 frames in a row (pyav, one core): {was:.1f} ms before, {now:.1f} ms now")
    print(f"use it: {shlex.quote(f'source.root={out}')}")


def _clip_ms(folder: Path, lengths: dict[str, int]) -> float:
    """Milliseconds of processor time to read 16 frames from the middle of each file on."""
    started = time.process_time()
    for name, length in lengths.items():
        with suppress(VsslError):  # a damaged file that decodes from its start may not from its middle
            read_frames(folder / name, (length // 2 + np.arange(16)) % length, "pyav")
    return 1000 * (time.process_time() - started) / len(lengths)
