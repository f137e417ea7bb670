"""Synthetic videos: textured sprites whose motion, and nothing else, decides the class.

Every video is a pure function of (seed, appearance, index) and the picture format; video i has class
i mod 8. Sprite, background, lighting, speed and length are drawn without regard to the class. The frame
is a torus (what leaves on one side enters on the other) and the sprite starts anywhere in any pose, so
that one frame alone tells nothing about the class.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from vssl.checks import Checked, at_least, between, check_at_least, check_choice, check_folder
from vssl.data.decode import check_decoder, load_decoder, read_frames
from vssl.errors import OptionError, VsslError
from vssl.video import Video

MOTIONS = ("translate", "bounce", "rotate", "zoom", "oscillate", "orbit", "zigzag", "shear")
"""The classes, by label."""

REVISION = 2
"""Part of the folder's name: raise it when a change of this file changes the videos."""

POOL = 64
"""Number of sprites, and of backgrounds, per appearance."""

TEXELS = 30
"""Side of a sprite's picture: about as many pixels as it covers, or slow motion would flicker."""

BLOCK = 8
"""Frames that are drawn at a time; no part of what they look like."""

# Motion at natural speed, in frames and sides of the frame (radius, reach: share of the side).
SPEED = 0.05
SLOWEST, FASTEST = 0.75, 1.4
PERIOD = 18
REACH = 0.35
ZOOM = 0.5
SHEAR = 1.0

TAU = 2 * np.pi
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class SyntheticVideos(Checked):
    """A VideoSource that draws its own videos, as H.264 files in `root`/synthetic-<hash>/.

    root: folder for data sets; the hash covers all other fields, but for the decoder.
    appearance: "train" or "test"; their pools of sprites and backgrounds are disjoint.
    noise: standard deviation of the sensor noise, in grey levels of 255.
    crf: constant rate factor of x264 (0 lossless, 51 worst).
    decoder: what reads the files; for pyav and decord the frames are the same to the bit.
    Height and width are in pixels and even, width at least 64; lengths are uniform in min_frames..max_frames.
    """

    LOOK = "synthetic"

    root: str
    appearance: Literal["train", "test"]
    num_videos: int = field(metadata=at_least(1))
    seed: int = field(metadata=at_least(0))
    height: int = field(metadata=at_least(2))
    width: int = field(metadata=at_least(64))  # decord misreads narrower ones
    min_frames: int = field(metadata=at_least(1))
    max_frames: int
    fps: int = field(metadata=at_least(1))
    noise: float = field(metadata=at_least(0))
    crf: int = field(metadata=between(0, 51))
    decoder: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_decoder(self.decoder)
        check_folder("root", Path(self.root).absolute())
        check_choice("appearance", self.appearance, ("train", "test"))
        check_at_least("max_frames", self.max_frames, self.min_frames)
        for name in ("height", "width"):
            if getattr(self, name) % 2:
                raise OptionError(name, getattr(self, name), "odd", "choose an even number; H.264 needs one")

    @property
    def class_names(self) -> tuple[str, ...]:
        return MOTIONS

    @property
    def folder(self) -> Path:
        """Where the videos lie, as <number>.mp4; it is there once all of them are."""
        look = {**asdict(self), "revision": REVISION}
        del look["root"], look["decoder"]
        digest = hashlib.sha256(json.dumps(look, sort_keys=True).encode()).hexdigest()
        return Path(self.root) / f"{self.LOOK}-{digest[:10]}"

    @cached_property
    def videos(self) -> list[Video]:
        lengths = [self._begin(index)[1] for index in range(self.num_videos)]
        return [Video(f"{n:05d}.mp4", length, n % len(MOTIONS)) for n, length in enumerate(lengths)]

    def read(self, video: Video, frames_T: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode frames as RGB [T,H,W,C]; raises VsslError if a file is missing or broken."""
        return read_frames(self.folder / video.name, frames_T, self.decoder)

    def prepare(self) -> None:
        """Write the videos unless they are there. Processes may do this at the same time.

        Raises VsslError if the folder cannot be written (nothing half-written stays behind), or if the
        decoder is not installed.
        """
        load_decoder(self.decoder)
        if self.folder.is_dir():
            return
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{self.folder.name}-", dir=self.root) as scratch:
                drawn = Path(scratch) / "videos"
                drawn.mkdir()
                # Threads suffice: numpy and the encoder release the interpreter lock.
                with ThreadPoolExecutor() as pool:
                    list(pool.map(lambda index: self._write(drawn, index), range(self.num_videos)))
                drawn.rename(self.folder)
        except OSError as error:
            if not self.folder.is_dir():  # else another process was faster: its videos are the same
                raise VsslError(
                    f"{self.folder}: cannot write the synthetic videos ({error}); "
                    "free some space or set root to a folder that can be written"
                ) from error

    def _write(self, folder: Path, index: int) -> None:
        encode(folder / self.videos[index].name, self.draw(index), self.fps, self.crf)

    def _begin(self, index: int) -> tuple[np.random.Generator, int]:
        """The generator that draws a video, and the number of its frames, which it draws first."""
        rng = np.random.default_rng([self.seed, self.appearance == "test", index])
        return rng, int(rng.integers(self.min_frames, self.max_frames + 1))

    def draw(self, index: int) -> NDArray[np.uint8]:
        """Draw video `index`: uint8 RGB [T,H,W,C], before compression."""
        rng, num_frames = self._begin(index)
        sprite, ground = rng.integers(POOL, size=2)
        picture = draw_sprite(self.appearance, int(sprite))
        canvas_THWC = np.empty((num_frames, self.height, self.width, 3), np.float32)
        canvas_THWC[:] = draw_background(self.appearance, int(ground), self.height, self.width)
        radius = rng.uniform(0.8, 1.0) / 2 * min(self.height, self.width)
        paste(canvas_THWC, picture, radius, draw_poses(MOTIONS[index % len(MOTIONS)], num_frames, rng))
        light_THW = _light(num_frames, self.height, self.width, rng)
        grain_THW = rng.standard_normal(canvas_THWC.shape[:3], np.float32)
        grain_THW *= np.float32(self.noise / 255)
        frames_THWC = np.empty(canvas_THWC.shape, np.uint8)
        for part in _blocks(num_frames):
            canvas_BHWC = canvas_THWC[part]
            canvas_BHWC *= light_THW[part, ..., None]
            canvas_BHWC += grain_THW[part, ..., None]
            canvas_BHWC *= 255
            frames_THWC[part] = canvas_BHWC.clip(0, 255, out=canvas_BHWC)
        return frames_THWC


@dataclass(frozen=True)
class UprightVideos(SyntheticVideos):
    """The same videos below a lamp: brightness falls to 30 % from the upper border to the lower one.

    In the others all directions are alike, so that nobody can tell which way up they are.
    """

    LOOK = "upright"

    def draw(self, index: int) -> NDArray[np.uint8]:
        light_H11 = np.linspace(1, 0.3, self.height, dtype=np.float32)[:, None, None]
        return (super().draw(index) * light_H11).astype(np.uint8)


@dataclass(frozen=True)
class FadingVideos(SyntheticVideos):
    """The same videos while a lamp goes out: brightness falls to 30 % from the first frame to the last one.

    In the others all moments are alike, so that nobody can tell which one came first.
    """

    LOOK = "fading"

    def draw(self, index: int) -> NDArray[np.uint8]:
        frames_THWC = super().draw(index)
        light_T111 = np.linspace(1, 0.3, len(frames_THWC), dtype=np.float32)[:, None, None, None]
        return (frames_THWC * light_T111).astype(np.uint8)


class Poses(NamedTuple):
    """Where and how the sprite stands in every frame.

    centre: row and column in sides of the frame, modulo 1. angle: in radians.
    """

    centre_T2: Doubles
    angle_T: Doubles
    log_scale_T: Doubles
    shear_T: Doubles


def draw_poses(motion: str, num_frames: int, rng: np.random.Generator) -> Poses:
    """Draw a pose at random and let `motion` change it, at a natural speed of 0.75 to 1.4 times its base.

    Rotation, scale and shear each have a phase; it stands still unless the motion is theirs.
    """
    place_2 = rng.random(2)
    speed = np.exp(rng.uniform(np.log(SLOWEST), np.log(FASTEST))) * rng.choice([-1, 1])
    time_T = speed * np.arange(num_frames)
    moving_3 = [motion == name for name in ("rotate", "zoom", "shear")]
    angle_T, zoom_T, shear_T = rng.uniform(0, TAU, (3, 1)) + TAU / PERIOD * np.outer(moving_3, time_T)
    centre_T2 = place_2 + _path(motion, time_T, rng)
    return Poses(centre_T2, angle_T, ZOOM * np.sin(zoom_T), SHEAR * np.sin(shear_T))


def _path(motion: str, time_T: Doubles, rng: np.random.Generator) -> Doubles:
    """Place of the centre [T,2] in sides of the frame, about an origin that the caller chooses."""
    heading, phase = rng.random(2)
    along_2 = _unit(heading)
    across_2 = _unit(heading + 0.25)
    time_T1 = time_T.reshape(-1, 1)
    way_T1 = SPEED * time_T1
    swing_T12 = REACH / 2 * _unit(time_T1 / PERIOD + phase)
    match motion:
        case "translate":
            return way_T1 * along_2
        case "bounce":
            # Between unseen walls anywhere: between the frame's own borders the sprite would always be
            # whole, so that one which a border cuts would give away that it belongs to another class.
            return _triangle(way_T1 * rng.uniform(0.6, 0.8, 2), rng.random(2))
        case "zigzag":
            return 0.7 * way_T1 * along_2 + _triangle(0.8 * way_T1, phase) * across_2
        case "oscillate":
            return swing_T12[..., 0] * along_2
        case "orbit":
            return swing_T12[..., 0] * along_2 + swing_T12[..., 1] * across_2
        case _:
            return np.zeros((len(time_T), 2))


def _unit(turns: float | Doubles) -> Doubles:
    """Point [..., 2] of the unit circle."""
    return np.stack([np.cos(TAU * turns), np.sin(TAU * turns)], axis=-1)


def _triangle(way: Doubles, phase: float | Doubles) -> Doubles:
    """Steady motion that turns back at 0 and at REACH; `phase` is the share of a round trip at the start."""
    lap = way / (2 * REACH) + phase
    return 2 * REACH * abs(lap - lap.round())


def paste(canvas_THWC: Floats, picture: Floats, radius: float, poses: Poses) -> None:
    """Draw the sprite into all frames [T,H,W,3], `radius` pixels about its centre at scale 1.

    Inverse affine map, bilinear between texels; what leaves on one side enters on the other.
    """
    height, width = canvas_THWC.shape[1:3]
    down_TH = _offset(poses.centre_T2[:, 0], height)
    right_TW = _offset(poses.centre_T2[:, 1], width)
    cos, sin, shear = np.cos(poses.angle_T), np.sin(poses.angle_T), poses.shear_T
    # inverse of rotation * shear of columns by rows * scale, on (row, column)
    rows = [[cos, sin], [-sin - shear * cos, cos - shear * sin]]
    inverse_22T: Doubles = np.array(rows) * np.exp(-poses.log_scale_T)
    inverse_T22 = inverse_22T.transpose(2, 0, 1).astype(np.float32) / radius
    # sprite coordinates of every pixel; the sprite lies in (-1, 1)
    down_T2H, right_T2W = inverse_T22[:, :, :1] * down_TH[:, None], inverse_T22[:, :, 1:] * right_TW[:, None]
    for part in _blocks(len(canvas_THWC)):
        vu_B2HW = down_T2H[part, :, :, None] + right_T2W[part, :, None, :]
        v_N, u_N = (vu_B2HW[:, axis].reshape(-1) for axis in range(2))
        inside = np.flatnonzero((np.abs(u_N) < 1) & (np.abs(v_N) < 1))
        colour_N4 = _bilinear(picture, v_N[inside], u_N[inside])
        canvas_N3 = canvas_THWC[part].reshape(-1, 3)
        mixed_N3 = canvas_N3.take(inside, axis=0) * (1 - colour_N4[:, 3:]) + colour_N4[:, :3]
        # as one item for each pixel: a quarter of the time of setting rows
        np.put(canvas_N3.view("V12"), inside, mixed_N3.view("V12"))


def _blocks(num_frames: int) -> Iterator[slice]:
    """A few frames at a time: they stay in the processor's cache."""
    return (slice(at, at + BLOCK) for at in range(0, num_frames, BLOCK))


def _offset(centre_T: Doubles, side: int) -> Floats:
    """Signed distance of each pixel from the centre along one axis, the shorter way round."""
    turns = (np.arange(side) + 0.5) / side - centre_T.reshape(-1, 1)
    return ((turns - turns.round()) * side).astype(np.float32)


def _bilinear(picture: Floats, v_N: Floats, u_N: Floats) -> Floats:
    """Sample the picture at coordinates in (-1, 1); outside it is transparent."""
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)))
    row, column = (v_N + 1) * (TEXELS / 2) + 0.5, (u_N + 1) * (TEXELS / 2) + 0.5
    top, left = np.floor(row), np.floor(column)
    texels, stride = padded.reshape(-1, 4), padded.shape[1]
    at = top.astype(np.intp) * stride + left.astype(np.intp)
    right_N1, low_N1 = (column - left)[:, None], (row - top)[:, None]
    upper, upper_right = texels.take(at, axis=0), texels.take(at + 1, axis=0)
    lower, lower_right = texels.take(at + stride, axis=0), texels.take(at + stride + 1, axis=0)
    upper += right_N1 * (upper_right - upper)
    lower += right_N1 * (lower_right - lower)
    colour_N4: Floats = upper + low_N1 * (lower - upper)
    return colour_N4


def _light(num_frames: int, height: int, width: int, rng: np.random.Generator) -> Floats:
    """Brightness [T,H,W] about 1: a gain that drifts, times a slope that slowly turns."""
    (gain_phase, slope_phase), periods_2 = rng.uniform(0, TAU, 2), rng.uniform(60, 240, 2)
    gain_turn_T, slope_turn_T = TAU * np.arange(num_frames) / periods_2[:, None]
    gain_T = 1 + 0.15 * np.sin(gain_turn_T + gain_phase)
    down_T = 0.15 * gain_T * np.cos(slope_turn_T + slope_phase)
    right_T = 0.15 * gain_T * np.sin(slope_turn_T + slope_phase)
    gain, down, right = np.stack([gain_T, down_T, right_T]).astype(np.float32)[..., None, None]
    y, x = (axis.astype(np.float32) for axis in _grid(height, width))
    light_THW: Floats = gain + down * y + right * x
    return light_THW


def draw_sprite(appearance: str, number: int) -> Floats:
    """Sprite of a pool: RGB that is multiplied with alpha, and alpha, [TEXELS,TEXELS,4] in 0..1."""
    rng = np.random.default_rng([appearance == "test", 0, number])
    y, x = _grid(TEXELS, TEXELS)
    alpha = _shape(y, x, rng)[..., None]
    colour = _textured(y, x, rng, contrast=0.8)
    return np.concatenate([colour * alpha, alpha], axis=-1).astype(np.float32)


def draw_background(appearance: str, number: int, height: int, width: int) -> Floats:
    """Background of a pool, RGB [H,W,3] in 0..1."""
    rng = np.random.default_rng([appearance == "test", 1, number])
    y, x = _grid(height, width)
    return _textured(y, x, rng, contrast=0.1).astype(np.float32)


def _grid(height: int, width: int) -> tuple[Doubles, Doubles]:
    """Rows [H,1] and columns [1,W] from -1 to 1."""
    return np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None, :]


def _shape(y: Doubles, x: Doubles, rng: np.random.Generator) -> Doubles:
    """Alpha of a blob, a polygon, a ring or something like a letter."""
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    match rng.integers(4):
        case 0:
            waves = [0.12 * np.cos(k * angle + rng.uniform(0, TAU)) for k in (2, 3, 4)]
            inside = 0.75 + sum(waves) - radius
        case 1:
            part = TAU / rng.integers(3, 7)
            inside = np.cos(part / 2) / np.cos(angle % part - part / 2) * 0.95 - radius
        case 2:
            inside = 0.25 - np.abs(radius - 0.65)
        case _:
            cells = rng.permutation(np.arange(16) < 10).reshape(4, 4)
            return np.pad(np.kron(cells, np.ones((TEXELS // 5, TEXELS // 5))), TEXELS // 10)
    # an edge one texel wide
    return np.clip(inside * TEXELS / 2 + 0.5, 0, 1)


def _textured(y: Doubles, x: Doubles, rng: np.random.Generator, contrast: float) -> Doubles:
    """Two colours mixed by a random pattern: checkers, stripes, dots or waves."""
    turn, scale = rng.uniform(0, TAU), rng.uniform(1.5, 3)
    u, v = scale * (np.cos(turn) * x + np.sin(turn) * y), scale * (np.cos(turn) * y - np.sin(turn) * x)
    match rng.integers(4):
        case 0:
            pattern = np.sin(TAU * u / 2) * np.sin(TAU * v / 2) * 8
        case 1:
            pattern = np.sin(TAU * u / 1.5) * 8
        case 2:
            pattern = (np.cos(TAU * u) + np.cos(TAU * v) - 0.6) * 6
        case _:
            pattern = np.zeros_like(u)
    # a smooth random field of about unit variance
    (down, right), phase = rng.normal(0, 5, (2, 8, 1, 1)), rng.uniform(0, TAU, (8, 1, 1))
    waves = np.cos(down * y + right * x + phase).sum(axis=0) / 2
    mix = 1 / (1 + np.exp(-pattern - 2 * waves))
    # colours about a random middle, `contrast` apart in every channel at most
    middle_3 = rng.uniform(contrast / 2, 1 - contrast / 2, 3)
    spread_3 = contrast / 2 * rng.uniform(0.4, 1, 3) * rng.choice([-1, 1], 3)
    dark_3, bright_3 = middle_3 - spread_3, middle_3 + spread_3
    texture: Doubles = dark_3 + mix[..., None] * (bright_3 - dark_3)
    return texture


def encode(path: Path, frames_THWC: NDArray[np.uint8], fps: int, crf: int) -> None:
    """Write frames as H.264 mp4. Equal frames give equal bytes."""
    # Presets with macroblock-tree rate control gave other bytes when several encoders ran in one process.
    options = {"preset": "ultrafast", "crf": str(crf)}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = 12
        for frame_HWC in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode())
