"""Sheets of pictures: the frames that a sampler chose and what augmentation made of them, and neighbours."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from vssl.data.dataset import Sample
from vssl.stage.callback import NeighbourSheet, Preview

Colour = tuple[int, int, int]

FASTER: Colour = (235, 110, 0)
BACK: Colour = (20, 90, 235)
INK: Colour = (30, 30, 30)
PAPER: Colour = (226, 226, 226)

LEGEND = {
    FASTER: "orange border: skips frames of the video",
    BACK: "blue border: does not go forward, but shows the same frame again or goes back in the video",
    INK: "below a decoded frame: its number in the video, from 0, and the step to it where that is not +1",
}

COLUMNS = 16
"""Frames side by side; longer clips go on in the next band."""

TITLE, CAPTION, TEXT = 20, 16, 13
"""Sizes of letters, in pixels."""

# In pixels: the margin of the sheet, the words beside the pictures, the space between pictures, the border
# around each, their height; then how far an augmented picture stands below the decoded one.
MARGIN, GUTTER, GAP, BORDER, HEIGHT = 16, 120, 3, 4, 72
BELOW = HEIGHT + 2 * BORDER + 20

# The same of neighbours: the picture, the letters, the space between pictures; letters that fit below one.
PICTURE, LETTERS, SPACE, LONGEST = (128, 96), 12, 8, 20
FRAMES: dict[bool | None, Colour] = {None: INK, True: (20, 150, 60), False: (210, 40, 40)}


@dataclass(frozen=True)
class Clip:
    """One clip: what it is called, and its frames in order.

    numbers_T: places of the frames in the video, from 0.
    decoded_THWC: as read, uint8. augmented_THWC: as the network sees them, in grey levels, uint8.
    """

    name: str
    numbers_T: NDArray[np.int64]
    decoded_THWC: NDArray[np.uint8]
    augmented_THWC: NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """The clips of one sample, under a line of words."""

    caption: str
    clips: Sequence[Clip]


def draw_preview(preview: Preview) -> bytes:
    """Return a PNG: the clips of every sample, before and after augmentation."""
    return draw_sheet(preview.title, [_block(preview, sample) for sample in preview.samples])


def _block(preview: Preview, sample: Sample) -> Block:
    batch = {name: values[None] for name, values in sample.tensors.items()}
    levels_KCTHW = preview.augmentation.to_grey_levels(preview.augmentation.apply(batch)[0])
    augmented_KTHWC = levels_KCTHW.permute(0, 2, 3, 4, 1).numpy()
    num_clips = len(augmented_KTHWC)
    names = preview.clip_names
    if len(names) != num_clips:  # student and teacher may see one clip
        names = [f"clip {k + 1} of {num_clips}" for k in range(num_clips)]
    parts = zip(names, sample.plan.frames_KT, sample.frames_KTHWC, augmented_KTHWC, strict=True)
    video, targets = sample.video, " ".join(f"{name}={value}" for name, value in sample.plan.targets.items())
    words = [video.name, f"{video.num_frames} frames"]
    words += [] if video.label is None else [f"class {video.label}"]
    caption = ", ".join(words) + (f"; targets (from 0): {targets}" if targets else "")
    return Block(caption, [Clip(*part) for part in parts])


def draw_neighbours(sheet: NeighbourSheet) -> bytes:
    """Return a PNG with a row for each query: the query itself, then its neighbours, nearest first.

    Right ones are framed green, wrong ones red.
    """
    (width, height), columns = PICTURE, max(len(row) for row in sheet.rows)
    pitch_x, pitch_y = width + 2 * BORDER + SPACE, height + 2 * BORDER + LETTERS + 2 * SPACE
    size = (columns * pitch_x + 2 * SPACE, len(sheet.rows) * pitch_y + LETTERS + 3 * SPACE)
    canvas = Image.new("RGB", size, "white")
    _write(canvas, (SPACE, SPACE), sheet.title, LETTERS)
    for y, row in enumerate(sheet.rows):
        for x, picture in enumerate(row):
            left, top = SPACE + x * pitch_x, LETTERS + 2 * SPACE + y * pitch_y
            fitted = ImageOps.fit(Image.fromarray(picture.frame_HWC), PICTURE)
            canvas.paste(ImageOps.expand(fitted, BORDER, FRAMES[picture.right]), (left, top))
            below = (left, top + height + 2 * BORDER + 2)
            _write(canvas, below, picture.caption[:LONGEST], LETTERS)
    return _png(canvas)


def draw_sheet(title: str, blocks: Sequence[Block]) -> bytes:
    """Return a PNG: a title and a legend, then every block with its clips before and after augmentation.

    Pictures are framed in colour where `marks` says so.
    """
    clips = [clip for block in blocks for clip in block.clips]
    width = max(_width(frames) for clip in clips for frames in (clip.decoded_THWC, clip.augmented_THWC))
    strips = [_line(title, TITLE), *(_line(words, TEXT, colour) for colour, words in LEGEND.items())]
    for block in blocks:
        strips += [_blank(1, CAPTION), _line(block.caption, CAPTION)]
        strips += [band for clip in block.clips for band in _bands(clip, width)]
    return _png(_pile(strips))


def marks(numbers_T: NDArray[np.int64]) -> list[Colour | None]:
    """The colour of each frame of a clip: FASTER or BACK where the step to it is not 1, else None.

    No step leads to the first frame; it is FASTER if the step from it is, as the beginning of a fast part.
    """
    steps = np.diff(numbers_T).tolist()
    first = FASTER if steps and steps[0] > 1 else None
    return [first, *(FASTER if step > 1 else BACK if step < 1 else None for step in steps)]


def _bands(clip: Clip, width: int) -> list[Image.Image]:
    """The clip in strips of up to COLUMNS frames; words stand beside the first one."""
    length = len(clip.numbers_T)
    starts = range(0, length, COLUMNS)
    bands = [_band(clip, range(start, min(start + COLUMNS, length)), width) for start in starts]
    _write(bands[0], (0, BORDER), f"{clip.name}\ndecoded\n{_size(clip.decoded_THWC)}")
    _write(bands[0], (0, BELOW + BORDER), f"\naugmented\n{_size(clip.augmented_THWC)}")
    return bands


def _band(clip: Clip, places: Sequence[int], width: int) -> Image.Image:
    """Frames as decoded, their numbers, and the frames augmented."""
    pitch = width + 2 * BORDER + GAP
    band = _blank(GUTTER + len(places) * pitch, BELOW + HEIGHT + 2 * BORDER + TEXT)
    colours, steps = marks(clip.numbers_T), np.diff(clip.numbers_T, prepend=clip.numbers_T[0] - 1)
    for column, place in enumerate(places):
        middle, colour = GUTTER + column * pitch + pitch // 2, colours[place]
        _show(band, clip.decoded_THWC[place], (middle, 0), colour)
        _show(band, clip.augmented_THWC[place], (middle, BELOW), colour)
        number = f"{clip.numbers_T[place]}" + (f"  {steps[place]:+d}" if steps[place] != 1 else "")
        _write(band, (middle, BELOW - 10), number, TEXT, colour or INK, anchor="mm")
    return band


def _show(
    canvas: Image.Image, frame_HWC: NDArray[np.uint8], top_middle: tuple[int, int], colour: Colour | None
) -> None:
    """Paste a frame in the common height, with its border above and around it."""
    fitted = Image.fromarray(frame_HWC).resize((_width(frame_HWC[None]), HEIGHT), Image.Resampling.BOX)
    framed = ImageOps.expand(fitted, BORDER, colour or PAPER)
    canvas.paste(framed, (top_middle[0] - framed.width // 2, top_middle[1]))


def _line(words: str, size: int, colour: Colour = INK) -> Image.Image:
    line = _blank(round(_font(size).getlength(words)) + 1, round(1.4 * size))
    _write(line, (0, 0), words, size, colour)
    return line


def _write(
    canvas: Image.Image,
    at: tuple[int, int],
    words: str,
    size: int = TEXT,
    colour: Colour = INK,
    anchor: str = "la",
) -> None:
    ImageDraw.Draw(canvas).text(at, words, colour, _font(size), anchor)


def _pile(strips: Sequence[Image.Image]) -> Image.Image:
    width, height = max(strip.width for strip in strips), sum(strip.height for strip in strips)
    sheet = _blank(width + 2 * MARGIN, height + 2 * MARGIN)
    top = MARGIN
    for strip in strips:
        sheet.paste(strip, (MARGIN, top))
        top += strip.height
    return sheet


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _width(frames_THWC: NDArray[np.uint8]) -> int:
    """Width of a picture that has the common height."""
    height, width = frames_THWC.shape[1:3]
    return int(HEIGHT * width / height)


def _size(frames_THWC: NDArray[np.uint8]) -> str:
    height, width = frames_THWC.shape[1:3]
    return f"{width} x {height} pixels"
