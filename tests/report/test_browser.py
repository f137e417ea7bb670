"""The page as a browser shows it, wide and on a phone, by day and by night."""

import pytest
from PIL import Image

import chromium
import fake_store
from vssl.commands import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium.find() is None, reason="no Chromium here (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    points, config = fake_store.segments_sweep(folder)
    config.sweep.update(baseline="1 segment", test_videos={"UCF101": 3783})
    report.execute(points, config)
    return folder / "report" / "segments" / "index.html"


@pytest.fixture(scope="module")
def browser():
    with chromium.Chromium() as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_says_nothing_to_the_console(browser, page, tmp_path, width, scheme):
    browser.open(page, width, scheme=scheme)
    assert browser.said == []
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    browser.screenshot(tmp_path / "page.png")
    image = Image.open(tmp_path / "page.png").convert("L")
    assert image.width == width
    assert (image.getpixel((1, 1)) > 128) == (scheme == "light")


def test_a_row_of_four_columns_fits_a_phone(browser, tmp_path):
    names = ["linear", "few labels", "fine-tuning", "retrieval"]
    row = "auxSKD + VSPP, equal compute"
    sweep = {"name": "claim", "title": "Claim", "source": "vssl", "metric": "video_top1", "overrides": []}
    sweep["columns"] = [{"label": name, "overrides": []} for name in names]
    sweep["rows"] = [{"label": row, "overrides": []}]
    chains = {(name, seed): fake_store.chain(1, seed, target=name) for name in names for seed in (0, 1)}
    for (_, seed), specs in chains.items():
        fake_store.finish_chain(fake_store.store_in(tmp_path), specs, 0.5 + 0.04 * seed)
    points = [fake_store.point(row, seed, specs, name) for (name, seed), specs in chains.items()]
    report.execute(points, fake_store.config(tmp_path, sweep))
    browser.open(tmp_path / "report" / "claim" / "index.html", 390)
    shown = browser.run("document.querySelector('#row-1 > summary b').textContent")
    assert shown.split(" · ") == ["52.0\xa0±\xa02.8"] * 4
    assert browser.run("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("table", ["results", "comparisons"])
def test_a_click_in_either_table_leads_to_the_row(browser, page, table):
    browser.open(page, 390)
    browser.run(f"document.querySelector('#{table} tr[data-row=row-2] td').click()")
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run("document.querySelector('#row-2').open") is True


def test_a_click_on_a_row_shows_its_recipe(browser, page):
    browser.open(page, 390)
    is_open = "document.querySelector('#row-2').open"
    assert browser.run(is_open) is False
    browser.run("document.querySelector('#results tr[data-row=row-2] td').click()")
    browser.run("new Promise(done => setTimeout(done, 200))")
    assert browser.run(is_open) is True
    assert browser.run("document.querySelector('#row-2').getBoundingClientRect().top") < 100
    browser.run("document.querySelector('#row-2 .recipe').open = true")
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert browser.said == []


def test_a_mistake_in_a_page_would_be_noticed(browser, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<script>undefined_function()</script><img src='http://127.0.0.1:9/a.png'>")
    browser.open(broken, 390)
    assert any("undefined_function" in said for said in browser.said)
    assert "loads http://127.0.0.1:9/a.png" in browser.said
