"""The page: all of the report in one file, whatever the labels hold."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import fake_store
from vssl.dispatch.states import states
from vssl.pipeline import merge
from vssl.report import table
from vssl.report.collect import of_points
from vssl.report.page import to_html
from vssl.report.plots import GRID, INK, Plot, draw

EVIL = "<script>alert('x')</script> & \"q\""


class Page(HTMLParser):
    """Tags with their attributes, and the text in each kind of tag."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._open = [], {}, []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:  # void tags have no end
            pass

    def handle_data(self, data):
        if self._open:
            self.text.setdefault(self._open[-1], []).append(data.strip())

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def collected(points, config):
    found = states(merge(point.chain for point in points), fake_store.store_in(Path(config.outputs)), None)
    return of_points(points, config.sweep, found)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    points, config = fake_store.segments_sweep(tmp_path_factory.mktemp("store"))
    config.sweep.title = EVIL
    report = collected(points, config)
    pictures = [*draw(report), Plot("retrieval-01-1", "Neighbours.", 0, b"png", None, True)]
    return report, to_html(report, pictures)


def test_nothing_is_loaded_from_elsewhere(made):
    page = Page(made[1])
    sources = [a["src"] for _, a in page.tags if "src" in a]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert all(a["href"].startswith("#") for _, a in page.tags if "href" in a)
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|url\(|@import", made[1])


def test_links_lead_to_places_of_the_page(made):
    page = Page(made[1])
    places = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for _, a in page.tags if "href" in a} <= places
    assert {a["data-row"] for a in page.all("tr") if "data-row" in a} == {"row-1", "row-2", "row-3"} <= places


def test_labels_and_titles_are_words(made):
    page = Page(made[1])
    assert page.all("script") == [{}]
    assert not page.all("i")
    assert page.text["h1"][0] == EVIL
    assert "2 <i>segments</i> | $x_2$" in page.text["a"]


def test_every_row_has_its_protocol_keys_recipes_and_difference(made):
    report, html = made
    row = html.split('id="row-1"')[1].split('id="row-2"')[0]
    for stage in report.rows[0].stages:
        assert row.count(stage.spec.key) >= 3  # in the table of stages, at its recipe, and in the recipe
    for words in ("VSPP on kinetics100 train", "segments: 1", "1,234,567 parameters"):
        assert words in row
    assert "published 57.5, difference \N{MINUS SIGN}5.5" in row
    assert "out of memory" in html.split('id="missing"')[1]


def test_drawings_follow_the_ground_of_the_page(made):
    drawing = next(s for s in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", made[1]))
    svg = base64.b64decode(drawing).decode()
    style = re.search(r"<svg[^>]*><style>(.*?)</style>", svg)[1]
    assert f"--ink:{INK}" in style
    assert f"--grid:{GRID}" in style
    assert "prefers-color-scheme:dark" in style
    assert INK not in svg.replace(style, "")
    assert "var(--ink)" in svg
    assert "xlink:href" not in re.sub(r'xlink:href="(#|data:)', "", svg).replace("xmlns:xlink", "")


def test_numbers_of_quick_are_marked_without_published_ones_too(tmp_path, capsys):
    points, config = fake_store.segments_sweep(tmp_path)
    config.sweep.rows = []
    assert "mean nothing" not in to_html(collected(points, config), [])
    quick = [replace(point, cfg=OmegaConf.create({"quick": {}})) for point in points]
    report = collected(quick, config)
    warning = "A rehearsal (experiment=quick): these numbers mean nothing."
    assert warning in to_html(report, [])
    table.result_table(report)
    assert warning in capsys.readouterr().out


def test_a_rehearsal_is_marked_in_every_row(tmp_path):
    points, config = fake_store.segments_sweep(tmp_path, "synthetic", "synthetic")
    report = collected(points, config)
    html = to_html(report, [])
    assert "<strong>Not comparable.</strong> Not as published" in html
    results = html.split('id="results"')[1].split("</table>")[0]
    assert results.count("<small>not as published</small>") == 3
    assert results.count("<small>synthetic test, ") == 2  # the third row has no number
    assert "not comparable: synthetic videos" in html
