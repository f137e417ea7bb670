"""A sheet of queries and their nearest neighbours, right ones framed green, wrong ones red."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont, ImageOps

from vssl.stage.callback import NeighbourSheet, Picture

FRAMES = {None: (30, 30, 30), True: (20, 150, 60), False: (210, 40, 40)}
PAPER, INK = (255, 255, 255), (30, 30, 30)

# In pixels: the pictures, the frame around each, the letters, the space between pictures.
WIDTH, HEIGHT, FRAME, LETTERS, GAP = 128, 96, 4, 12, 8
PITCH_X, PITCH_Y = WIDTH + 2 * FRAME + GAP, HEIGHT + 2 * FRAME + LETTERS + 2 * GAP

LONGEST = 20
"""Letters of a caption that fit below a picture."""


def draw_neighbours(sheet: NeighbourSheet) -> bytes:
    """Return a PNG with a row for each query: the query itself, then its neighbours, nearest first."""
    columns = max(len(row) for row in sheet.rows)
    size = (columns * PITCH_X + 2 * GAP, len(sheet.rows) * PITCH_Y + LETTERS + 3 * GAP)
    canvas = Image.new("RGB", size, PAPER)
    ImageDraw.Draw(canvas).text((GAP, GAP), sheet.title, INK, ImageFont.load_default(LETTERS))
    for y, row in enumerate(sheet.rows):
        for x, picture in enumerate(row):
            _show(canvas, picture, (GAP + x * PITCH_X, LETTERS + 2 * GAP + y * PITCH_Y))
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return file.getvalue()


def _show(canvas: Image.Image, picture: Picture, at: tuple[int, int]) -> None:
    """A picture in its frame with the left upper corner `at`, and its caption below."""
    left, top = at
    draw = ImageDraw.Draw(canvas)
    right, bottom = left + WIDTH + 2 * FRAME - 1, top + HEIGHT + 2 * FRAME - 1
    draw.rectangle((left, top, right, bottom), fill=FRAMES[picture.right])
    fitted = ImageOps.fit(Image.fromarray(picture.frame_HWC), (WIDTH, HEIGHT))
    canvas.paste(fitted, (left + FRAME, top + FRAME))
    draw.text((left, bottom + 3), picture.caption[:LONGEST], INK, ImageFont.load_default(LETTERS))
