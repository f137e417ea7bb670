"""Sheets are looked at; here it is their pixels, and the words that are written, that are read back."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vssl.report.sheet import BACK, COLUMNS, FASTER, HEIGHT, PAPER, Block, Clip, draw_sheet, marks

DECODED, AUGMENTED = 200, 100  # the blue of all planted pictures


def clip(name, numbers, sample=0, size=(24, 32)):
    """A clip whose pictures have one colour each: red tells the place in the clip, green the sample."""

    def solid(blue, height, width):
        frames = np.zeros((len(numbers), height, width, 3), np.uint8)
        frames[..., 0] = 10 + np.arange(len(numbers))[:, None, None]
        frames[..., 1], frames[..., 2] = 50 + sample, blue
        return frames

    return Clip(name, np.array(numbers), solid(DECODED, *size), solid(AUGMENTED, 16, 16))


def pixels(*clips):
    """The sheet [H,W,C] of clips, one sample each."""
    png = draw_sheet("title", [Block("", [one]) for one in clips])
    return np.array(Image.open(io.BytesIO(png)))


def box(sheet, place, sample=0, blue=DECODED):
    """Top, bottom, left and right (inclusive) of a planted picture."""
    rows, columns = np.nonzero((sheet == (10 + place, 50 + sample, blue)).all(axis=-1))
    top, bottom, left, right = rows.min(), rows.max(), columns.min(), columns.max()
    assert len(rows) == (bottom - top + 1) * (right - left + 1)
    return top, bottom, left, right


def border(sheet, *picture):
    """The one colour that surrounds a picture, two pixels away from it on all sides."""
    top, bottom, left, right = box(sheet, *picture)
    ring = np.concatenate(
        [
            sheet[[top - 2, bottom + 2], left : right + 1].reshape(-1, 3),
            sheet[top : bottom + 1, [left - 2, right + 2]].reshape(-1, 3),
        ]
    )
    [colour] = {tuple(pixel) for pixel in ring.tolist()}
    return colour


F, B, N = FASTER, BACK, None


@pytest.mark.parametrize(
    ("numbers", "colours"),
    [
        ([7, 8, 9, 10], [N, N, N, N]),
        ([7, 8, 11, 14, 15], [N, N, F, F, N]),
        ([7, 10, 13, 14], [F, F, F, N]),  # a fast first part: nothing leads to its first frame
        ([7, 8, 0, 1, 1], [N, N, B, N, B]),
        ([7, 0, 2], [N, B, F]),
        ([7], [N]),
    ],
)
def test_marks_are_the_steps_that_are_not_1(numbers, colours):
    assert marks(np.array(numbers)) == colours


def test_exactly_the_planted_frames_are_framed_before_and_after_augmentation():
    planted = [[3, 4, 7, 10, 11, 0, 1], [20, 22, 24, 25, 26, 26, 27]]
    sheet = pixels(*(clip("", numbers, sample) for sample, numbers in enumerate(planted)))
    colours = [[N, N, F, F, N, B, N], [F, F, F, N, N, B, N]]
    for sample, expected in enumerate(colours):
        for blue in (DECODED, AUGMENTED):
            found = [border(sheet, place, sample, blue) for place in range(7)]
            assert found == [colour or PAPER for colour in expected]


def test_frames_stand_in_order_and_the_augmented_ones_below():
    sheet = pixels(clip("", range(5)))
    boxes = [box(sheet, place) for place in range(5)]
    assert [left for _, _, left, _ in boxes] == sorted(left for _, _, left, _ in boxes)
    assert len({top for top, _, _, _ in boxes}) == 1
    for place, (_, bottom, left, right) in enumerate(boxes):
        below, _, below_left, below_right = box(sheet, place, blue=AUGMENTED)
        assert below > bottom
        assert below_left + below_right == pytest.approx(left + right, abs=2)


def test_pictures_share_a_height_and_keep_their_shape():
    sheet = pixels(clip("", range(2)), clip("", range(2), sample=1, size=(40, 20)))
    sizes = [
        (bottom - top + 1, right - left + 1)
        for top, bottom, left, right in (box(sheet, 0), box(sheet, 0, 1), box(sheet, 0, 0, AUGMENTED))
    ]
    assert sizes == [(HEIGHT, HEIGHT * 4 // 3), (HEIGHT, HEIGHT // 2), (HEIGHT, HEIGHT)]


def test_long_clips_go_on_below_and_the_sheet_stays_narrow():
    one, four = (pixels(clip("", range(length))) for length in (COLUMNS, 4 * COLUMNS))
    assert one.shape[1] == four.shape[1] < 2000
    starts = [box(four, place) for place in range(0, 4 * COLUMNS, COLUMNS)]
    assert len({left for _, _, left, _ in starts}) == 1
    tops = [top for top, _, _, _ in starts]
    assert tops == sorted(set(tops))
    assert tops[0] < box(four, 0, blue=AUGMENTED)[0] < tops[1]
    assert border(four, COLUMNS) == PAPER  # the step across the fold counts as any other


def test_words_and_numbers_are_written(monkeypatch):
    written, text = [], ImageDraw.ImageDraw.text

    def record(self, at, words, *rest, **options):
        written.extend(words.split("\n"))
        return text(self, at, words, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", record)
    samples = [Block("a.mp4, speed=2", [clip("student", [8, 9, 12]), clip("teacher", [30, 0, 0])])]
    draw_sheet("pretext 1234", samples)
    expected = ["pretext 1234", "a.mp4, speed=2", "student", "teacher", "32 x 24 pixels", "16 x 16 pixels"]
    assert set(expected) <= set(written)
    numbers = [words for words in written if words[:1].isdigit() and "pixels" not in words]
    assert numbers == ["8", "9", "12  +3", "30", "0  -30", "0  +0"]
