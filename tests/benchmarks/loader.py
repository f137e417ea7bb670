"""Clips per second and core of every decoder, on original and on prepared videos, beside a classic loader.

The classic loader is that of auxSKD's released code: frames as JPEG files, resized by OpenCV, jittered one
by one through PIL. All read the same frames in one thread, in turns, and make what a loader process sends:
the classic one finished clips, vssl cropped bytes and the numbers of the augmentation, which the device
applies. Processor time is counted, so that other work disturbs little. Writes outputs/bench/loader.json.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import default_collate
from torchvision.transforms import ColorJitter

from benchmarks.measuring import ROOT, Options, Table, in_turns, median, processor, spread
from vssl.data.augmentation import Augmentation
from vssl.data.dataset import ClipDataset
from vssl.data.decode import Decoder, read_frames
from vssl.data.decoders import torchcodec
from vssl.data.exactness import exact
from vssl.data.lists import video_files
from vssl.data.prepare import PreparedFormat, transcode
from vssl.data.probe import BadVideo, probe
from vssl.data.synthetic import SyntheticVideos
from vssl.errors import VsslError
from vssl.stage.build import build
from vssl.types import ClipPlan, ClipSampler
from vssl.video import Video

SIZE, CROP = [128, 171], 112
GOAL = 4.0
JITTERED = ", jittered here"
RUNS, CLIPS = 7, 24


@dataclass(frozen=True)
class Strided(ClipSampler):
    """16 frames at a step of 1 to 4."""

    @property
    def classes(self) -> dict[str, int]:
        return {}

    @property
    def min_frames(self) -> int:
        return 61

    def plan(self, num_frames: int, rng: np.random.Generator) -> ClipPlan:
        step = int(rng.integers(1, 5))
        start = int(rng.integers(0, num_frames - 15 * step))
        return ClipPlan(start + step * np.arange(16)[None], {})


@dataclass(frozen=True)
class Files:
    """Videos of one folder through one decoder."""

    root: Path
    videos: list[Video]
    decoder: Decoder

    @property
    def class_names(self) -> list[str]:
        return []

    def prepare(self) -> None:
        """Nothing to do."""

    def read(self, video: Video, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
        return read_frames(self.root / video.name, frames_T, self.decoder)


class Classic:
    """JPEG frames, resized and cropped one by one; every frame jittered with probability 0.8 (PIL)."""

    def __init__(self, root: Path, videos: list[Video]) -> None:
        self.root, self.videos, self.sampler = root, videos, Strided()
        self.jitter = ColorJitter(0.8, 0.8, 0.8, 0.2)

    def __getitem__(self, at: tuple[int, int]) -> torch.Tensor:
        epoch, index = at
        video = self.videos[index % len(self.videos)]
        rng = np.random.default_rng([0, epoch, index])
        [frames_T] = self.sampler.plan(video.num_frames, rng).frames_KT
        top, left = rng.integers(0, (SIZE[0] - CROP + 1, SIZE[1] - CROP + 1))
        flip = rng.random() < 0.5
        frames = []
        for number in frames_T.tolist():
            small = self._small(self.root / video.name / f"{number:05}.jpg")
            image = Image.fromarray(small[top : top + CROP, left : left + CROP])
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image
            frames.append(np.asarray(self.jitter(image) if rng.random() < 0.8 else image))
        return torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).float().contiguous()

    def _small(self, path: Path) -> NDArray[np.uint8]:
        return cv2.cvtColor(cv2.resize(cv2.imread(str(path)), SIZE[::-1]), cv2.COLOR_BGR2RGB)


def run(options: Options) -> Iterator[Table]:
    """On the given videos, or on drawn ones."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root = options.videos or draw(Path(scratch) / "drawn", 1 if options.smallest else 6)
        videos = usable(root, Path(scratch) / "prepared")
        for video in videos:
            write_jpegs(root / video.name, Path(scratch) / "jpeg" / video.name)
        clips = 2 if options.smallest else CLIPS
        works = {name: clip_maker(make, clips) for name, make in loaders(root, Path(scratch), videos).items()}
        seconds = in_turns(works, options.runs(RUNS), processor)
        rates = {name: [clips / took for took in values] for name, values in seconds.items()}
        yield table(
            rates, {name: size_mb(path) for name, path in folders(root, Path(scratch)).items()}, videos
        )


def clip_maker(make: Callable[[int], object], clips: int) -> Callable[[], None]:
    """Makes so many clips at each call, always the next ones."""
    numbers = count()

    def work() -> None:
        for n in islice(numbers, clips):
            make(n)

    return work


def draw(folder: Path, number: int) -> Path:
    """Videos as large as those of UCF101, written with x264's own settings."""
    source = SyntheticVideos(str(folder), "train", number, 0, 240, 320, 150, 150, 25, 4.0, 23, "pyav")
    folder.mkdir()
    for index in range(source.num_videos):
        with av.open(str(folder / f"{index}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
            for frame_HWC in source.draw(index):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
            container.mux(stream.encode())
    return folder


def usable(root: Path, prepared: Path) -> list[Video]:
    """Videos that every decoder at hand reads rightly, and that could be `prepared`."""
    videos = []
    for name in video_files(root):
        try:
            video = Video(name, probe(root / name).frames)
            if video.num_frames >= Strided().min_frames and all(exact(root / name, d) for d in decoders()):
                transcode(root / name, prepared / name, look())
                videos.append(video)
        except BadVideo:
            continue
    return videos


@cache
def decoders() -> list[Decoder]:
    """Decoders that load here."""
    try:
        torchcodec.load()
    except VsslError as error:
        print(f"without {error}")
        return ["decord", "pyav"]
    return ["decord", "pyav", "torchcodec"]


def look() -> PreparedFormat:
    return PreparedFormat(
        SIZE,
        **{n: yaml.safe_load((ROOT / "conf/config.yaml").read_text())["prepare"][n] for n in ("crf", "gop")},
    )


def write_jpegs(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    numbers = count()
    probe(path, lambda picture: Image.fromarray(picture).save(folder / f"{next(numbers):05}.jpg", quality=95))


def folders(root: Path, scratch: Path) -> dict[str, Path]:
    return {"original": root, "prepared": scratch / "prepared", "classic": scratch / "jpeg"}


def loaders(root: Path, scratch: Path, videos: list[Video]) -> dict[str, Callable[[int], object]]:
    """What makes the clip of a number, by name."""
    node = yaml.safe_load((ROOT / "conf/augmentation/frame_jitter.yaml").read_text())
    node["crop"].update(resize=SIZE, size=CROP)
    augmentation: Augmentation = build(node, "augmentation")
    classic = Classic(scratch / "jpeg", videos)
    makers: dict[str, Callable[[int], object]] = {"classic": lambda n: classic[0, n]}
    for files in ("original", "prepared"):
        for decoder in decoders():
            source = Files(folders(root, scratch)[files], videos, decoder)
            data = ClipDataset(source, Strided(), augmentation, 0, 1, replace_bad=False)
            makers[f"{files}, {decoder}"] = lambda n, data=data: data[0, n]
            makers[f"{files}, {decoder}{JITTERED}"] = lambda n, data=data: augmentation.apply(
                default_collate([data[0, n]])
            )
    return makers


def table(rates: dict[str, list[float]], megabytes: dict[str, float], videos: list[Video]) -> Table:
    """Clips per second and core, and what the videos take on the disk."""
    medians = {name: median(values) for name, values in rates.items()}
    rows: list[list[str | float]] = [
        [name, rate, spread(rates[name]), rate / medians["classic"], megabytes[name.partition(",")[0]]]
        for name, rate in medians.items()
    ]
    best = max(value for name, value in medians.items() if name.startswith("prepared")) / medians["classic"]
    remarks = [
        f"{len(videos)} videos; clips of 16 frames at a step of 1 to 4. classic: JPEG frames, resized by "
        "OpenCV, jittered one by one by PIL.",
        "vssl leaves the jitter to the device; jittered here: in its batched pass, by the same core.",
        f"prepared: {best:.1f} x classic, goal {GOAL:g}: {'met' if best >= GOAL else 'not met'}",
    ]
    measured = {"clips_per_second_and_core": medians, "runs": rates, "best_prepared_over_classic": best}
    columns = ["videos, decoder", "clips/s/core", "runs", "x classic", "MB"]
    return Table("Loader", columns, rows, remarks, measured)


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
