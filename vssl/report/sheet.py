"""Contact sheets: the frames that a sampler chose, and what augmentation made of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

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
    file = io.BytesIO()
    _pile(strips).save(file, "PNG")
    return file.getvalue()


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
    bands = [
        _band(clip, range(start, min(start + COLUMNS, length)), width) for start in range(0, length, COLUMNS)
    ]
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
    size = (_width(frame_HWC[None]), HEIGHT)
    left, top = top_middle[0] - size[0] // 2, top_middle[1] + BORDER
    if colour:
        framed = (left - BORDER, top - BORDER, left + size[0] + BORDER - 1, top + HEIGHT + BORDER - 1)
        ImageDraw.Draw(canvas).rectangle(framed, fill=colour)
    canvas.paste(Image.fromarray(frame_HWC).resize(size, Image.Resampling.BOX), (left, top))


def _line(words: str, size: int, colour: Colour = INK) -> Image.Image:
    """One line of words, as wide as they are."""
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
    """Strips one below the other."""
    width, height = max(strip.width for strip in strips), sum(strip.height for strip in strips)
    sheet = _blank(width + 2 * MARGIN, height + 2 * MARGIN)
    top = MARGIN
    for strip in strips:
        sheet.paste(strip, (MARGIN, top))
        top += strip.height
    return sheet


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
