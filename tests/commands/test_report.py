"""The whole report of a planted store, worked out by hand: every stage took an hour on two GPUs."""

import csv
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image

import fake_store
from vssl.commands import report
from vssl.dispatch.states import states
from vssl.errors import OptionError, VsslError
from vssl.pipeline import merge
from vssl.report.collect import of_points
from vssl.report.table import result_table, status_table
from vssl.result import Metric

TWO = r"2 \<i>segments\</i> \| \$x\_2\$"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Points, config, and a report that was written over an older one."""
    points, config = fake_store.segments_sweep(tmp_path_factory.mktemp("store"))
    old = written(config) / "figures" / "curve-of-old.png"
    old.parent.mkdir(parents=True)
    old.touch()
    report.execute(points, config)
    return points, config


def written(config, name="segments"):
    return Path(config.outputs) / "report" / name


def golden(text):
    return dedent(text).lstrip("\n")


def test_markdown(made):
    points, config = made
    text = (written(config) / "table.md").read_text()
    head, rows = text.split("## Rows\n")
    key = {(point.label[0], point.seed, i): s.key for point in points for i, s in enumerate(point.chain)}
    assert head == golden(rf"""
        # Segments of VSPP

        Highest UCF101 video top-1: {TWO}, 60.0 % (1 seed; ucf101 test). Ours minus published: −5.5 to +2.5 points over 2 numbers, −1.5 on average. 3 of 6 runs done: 10 of 18 stages, 20.00 GPU h in all.

        | method | UCF101 video top-1 | 95 % (seeds) | 95 % (videos) | seeds | published | difference | test data | wall time | compute | clips seen | peak memory | energy | % per hour |
        | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |
        | 1 segment | 52.0 ± 2.8 | \[26.6, 77.4] | \[42.5, 61.5] | 2 | 57.5 | −5.5 | ucf101 test | 6:00:00 | 12.00 GPU h | 6,000 | 1.00 GiB | 6 kWh | 8.67 per GPU hour |
        | {TWO} | 60.0 | – | – | 1 of 2 | 57.5 | +2.5 | ucf101 test | 4:00:00 | 8.00 GPU h | 4,000 | 1.00 GiB | ≥ 1 kWh (3 of 4 unknown) | 10 per GPU hour |
        | 3 segments | – | – | – | 0 of 2 | 59.5 | – | ucf101 test | – | – | – | – | – | – |

        Video top-1 in percent: mean ± sample standard deviation over the seeds. 95 % (seeds): t interval of the mean, by the spread of the seeds. 95 % (videos): bootstrap over the test videos, with these seeds, as if videos were independent. Published: a paper, Table 4. Costs are sums over the distinct stages of a row, all seeds together, each stage once; accuracy per hour is for one run. An hour on a CPU is an hour of wall time.

        ## Missing

        - {TWO}, UCF101, seed 1: finetune {key["2", 1, 1]} failed: out of memory
        - 3 segments, UCF101, seed 0: pretext {key["3", 0, 0]} to do
        - 3 segments, UCF101, seed 1: pretext {key["3", 1, 0]} to do

        """)  # noqa: E501, RUF001
    assert rows.lstrip().startswith(
        golden(f"""
        ### 1 segment

        - UCF101 other metrics: clip top-1 39.5 ± 2.8 %, chance 1.0 ± 0.0 %
        - backbone: R3D, 1,234,567 parameters
        - pretext: VSPP on kinetics100 train, 1,000 videos, epochs 20, batch 30
        - finetune: Classification on ucf101 train, 9,537 videos, epochs 25, batch 30
        - test: Classification on ucf101 test, 3,783 videos
        - trained: backbone and heads
        - clips per video: 10
        - device: cuda
        - code: vssl 0.1.0, commit 0123456789ab
        - seeds: 0, 1
        - pretext keys: {key["1", 0, 0]}, {key["1", 1, 0]}
        - finetune keys: {key["1", 0, 1]}, {key["1", 1, 1]}
        - test keys: {key["1", 0, 2]}, {key["1", 1, 2]}
        """)
    )


def test_csv_has_numbers_in_full_and_other_metrics(made):
    points, config = made
    with open(written(config) / "table.csv") as file:
        one, two, three = csv.DictReader(file)
    assert one["label"] == "1 segment"
    assert float(one["UCF101 video_top1 mean"]) == pytest.approx(52)
    assert float(one["UCF101 video_top1 sd"]) == pytest.approx(2.82843)
    low, high = float(one["UCF101 95 % (seeds) low"]), float(one["UCF101 95 % (seeds) high"])
    assert (low, high) == pytest.approx((52 - 12.706 * 2, 52 + 12.706 * 2), abs=1e-3)
    assert float(one["UCF101 clip_top1 mean"]) == pytest.approx(39.5)
    assert float(one["UCF101 difference"]) == pytest.approx(-5.5)
    assert (one["gpu_hours"], one["cpu_hours"], one["wall_seconds"]) == ("12.0", "0.0", "21600.0")
    assert (two["UCF101 video_top1 sd"], two["UCF101 seeds done"], two["UCF101 seeds asked"]) == (
        "",
        "1",
        "2",
    )
    assert (two["energy_joules"], two["energy_joules stages unknown"]) == ("3600000.0", "3")
    assert (three["UCF101 video_top1 mean"], three["UCF101 published"], three["gpu_hours"]) == (
        "",
        "59.5",
        "",
    )
    assert one["pretext keys"].split() == [point.chain[0].key for point in points[:2]]


def test_figures_are_written_and_those_of_an_earlier_report_are_gone(made):
    folder = written(made[1]) / "figures"
    files = {path.name for path in folder.iterdir()}
    names = {"results", "curve", "training", "cost", "training-01", "training-02", "confusion-01"}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert Image.open(folder / "curve.png").size[0] > 600


def test_made_up_videos_have_no_difference_and_the_report_says_so(tmp_path, capsys):
    points, config = fake_store.segments_sweep(tmp_path, "synthetic", "synthetic")
    report.execute(points, config)
    words = "Not as published: synthetic videos."
    assert words in capsys.readouterr().out
    for name in ("table.md", "table.tex", "index.html"):
        assert words in (written(config) / name).read_text()
    with open(written(config) / "table.csv") as file:
        for row in csv.DictReader(file):
            assert row["UCF101 difference"] == ""
            assert row["UCF101 test data"] == "synthetic test"
    svg = (written(config) / "figures" / "curve.svg").read_text()
    assert svg.count("<!-- both") == 1  # the legend names our curve, and no published one


def test_a_single_point_without_a_sweep_reports_the_whole_store(tmp_path, capsys):
    points, _ = fake_store.segments_sweep(tmp_path)
    report.execute(points[:1], fake_store.config(tmp_path))
    assert "3 of 3 runs done" in capsys.readouterr().out
    text = (written(fake_store.config(tmp_path), "all") / "table.md").read_text()
    assert r"segments=1 | 52.0 ± 2.8 | \[26.6, 77.4] | \[42.5, 61.5] | 2 |" in text
    assert "published" not in text.split("## Missing")[0].lower()


def test_points_without_a_file_are_their_own_report(tmp_path):
    points, _ = fake_store.segments_sweep(tmp_path)
    report.execute(points, fake_store.config(tmp_path))
    text = (tmp_path / "report" / "sweep" / "table.md").read_text()
    assert r"| 1 segment | 52.0 ± 2.8 | \[26.6, 77.4] |" in text


def test_where_the_folder_of_the_stages_takes_no_report_it_is_told_where_it_can_go(tmp_path):
    """As in the outputs of a colleague, which may only be read: outputs=DIR would lose the stages."""
    points, _ = fake_store.segments_sweep(tmp_path / "theirs")
    config = fake_store.config(tmp_path / "theirs")
    (tmp_path / "theirs" / "report").touch()
    message = rf"^export\.out={tmp_path}/theirs/report/sweep: Not a directory; give another place$"
    with pytest.raises(OptionError, match=message):
        report.execute(points, config)
    config.export.out = str(tmp_path / "mine")
    report.execute(points, config)
    assert (tmp_path / "mine" / "sweep" / "index.html").exists()


def test_two_points_in_one_place_are_an_error(tmp_path):
    points = [fake_store.point("VSPP", 0, fake_store.chain(segments, 0)) for segments in (3, 4)]
    with pytest.raises(VsslError, match="both called 'VSPP'"):
        report.execute(points, fake_store.config(tmp_path))
    report.execute(points[:1] * 2, fake_store.config(tmp_path))  # the same point twice is one


def test_rows_that_cannot_run_stand_there_with_their_published_numbers_and_the_reason(tmp_path, capsys):
    points, config = fake_store.segments_sweep(tmp_path)
    row = {"label": "5 <segments>", "published": {"UCF101": 61.5}, "reason": "no & frames"}
    config.sweep.not_run = [row]
    report.execute(points, config)
    assert "\nnot run: 5 <segments>: no & frames\n" in capsys.readouterr().out
    text = (written(config) / "table.md").read_text()
    assert "| 5 \\<segments> | – | – | – | – | 61.5 | – | – | – | – | – | – | – | – |" in text  # noqa: RUF001
    assert text.endswith("### 5 \\<segments>\n\n- not run: no & frames\n")
    assert "3 of 6 runs done" in text
    page = (written(config) / "index.html").read_text()
    assert "<small>not run: no &amp; frames</small>" in page
    assert "61.5" in page
    assert "% not run: no & frames\n5 <segments> & -- & -- &" in (written(config) / "table.tex").read_text()
    with open(written(config) / "table.csv") as file:
        *_, last = csv.DictReader(file)
    assert (last["UCF101 published"], last["UCF101 seeds asked"], last["not run"]) == (
        "61.5",
        "0",
        "no & frames",
    )


def compared(folder):
    """Two rows against the first one, three seeds each: 20, 21 and 25 points more, and 1, 0 and -1.

    The mean of the first is 22, its standard error sqrt(7 / 3) = 1.53, t = 14.4 on 2 degrees of freedom:
    p = 0.0048; the interval reaches 4.303 * 1.53 = 6.57 to both sides.
    """
    store, points = fake_store.store_in(folder), []
    reached = {"scratch": (0.30, 0.31, 0.35), "VSPP": (0.50, 0.52, 0.60), "VCOP & co": (0.31, 0.31, 0.34)}
    for segments, (label, tops) in enumerate(reached.items()):
        for seed, top in enumerate(tops):
            chain = fake_store.chain(segments, seed)
            fake_store.finish_chain(store, chain, top)
            fake_store.predict(store, chain[-1], [[top, 1 - top], [1 - top, top]], ["a", "b"], videos=100)
            points.append(fake_store.point(label, seed, chain, "UCF101"))
    rows = [{"label": label, "overrides": [], "published": {"UCF101": 40.0}} for label in reached]
    shared = {"baseline": "scratch", "test_videos": {"UCF101": 3783}}
    columns = [{"label": "UCF101", "overrides": []}]
    sweep = {
        "name": "claim",
        "title": "Claim",
        "source": "a paper",
        "rows": rows,
        "columns": columns,
        **shared,
    }
    report.execute(points, fake_store.config(folder, sweep))
    return {path.name: path.read_text() for path in (folder / "report" / "claim").glob("*.*")}


def test_rows_are_compared_with_their_baseline_in_every_form(tmp_path, capsys):
    files = compared(tmp_path)
    out = capsys.readouterr().out
    assert "\nDistinguishable from a baseline: 1 of 2 (VSPP minus scratch UCF101).\n" in out
    one, two = csv.DictReader(files["comparisons.csv"].splitlines())
    assert (one["label"], one["minus"], one["column"], one["seeds"]) == ("VSPP", "scratch", "UCF101", "3")
    assert [float(one[name]) for name in ("difference", "95 % (seeds) low", "p", "p Holm")] == pytest.approx(
        [22, 22 - 4.3027 * (7 / 3) ** 0.5, 0.00479, 2 * 0.00479], rel=1e-3
    )
    assert 15 < float(one["95 % (videos) low"]) < 20
    assert (one["comparisons"], one["distinguishable"], two["distinguishable"]) == ("2", "yes", "no")
    least = float(two["smallest detectable"])
    said = f"not distinguishable: 3 seeds can detect differences of {least:.1f} or more"
    assert two["in words"] == said
    assert r"| **+22.0 \[15.4, 28.6], 3 seeds** |" in files["table.md"]
    assert f"| {said} |" in files["table.md"]
    assert r"& \textbf{+22.0 [15.4, 28.6], 3 seeds} \\" in files["table.tex"]
    assert r"VCOP \& co & scratch & UCF101 video top-1 & +0.0" in files["table.tex"]
    assert "The table makes 2 comparisons, so p is corrected" in files["index.html"]
    rows = files["index.html"].split('id="comparisons"')[1].split("</table>")[0].split("<tr")[2:]
    assert ['class="distinguishable"' in row for row in rows] == [True, False]
    assert "<small>minus scratch, UCF101 video top-1</small>" in rows[0]


def test_published_numbers_have_the_interval_of_their_test_set(tmp_path):
    """40 % of 3,783: 1.96 sqrt(0.4 * 0.6 / 3783) = 1.56 points to both sides. A difference to it has a colour
    only where our interval over seeds does not meet that one: [25.4, 38.6] of 32 does, [40.9, 67.1] of 54
    too, [27.7, 36.3] of 32 does not."""
    files = compared(tmp_path)
    assert r"| 40.0 \[38.4, 41.6] |" in files["table.md"]
    assert "<small>[38.4, 41.6]</small>" in files["index.html"]
    assert "Behind it, what the size of its test set alone leaves open" in files["table.tex"]
    first, *_ = csv.DictReader(files["table.csv"].splitlines())
    assert float(first["UCF101 published 95 % (videos) low"]) == pytest.approx(38.45, abs=0.01)
    assert float(first["UCF101 published 95 % (videos) high"]) == pytest.approx(41.57, abs=0.01)
    results = files["index.html"].split('id="results"')[1].split("</table>")[0]
    assert re.findall(r'<td class="(better|worse|)">', results) == ["", "", "worse"]


def test_any_metric_that_a_protocol_declares_appears_everywhere(tmp_path, capsys):
    store = fake_store.store_in(tmp_path)
    rank = Metric("rank", "mean rank", percent=False, larger_is_better=False)
    declared = [Metric("mAP", "mAP", headline=True), rank]
    points = [fake_store.point(f"{z} segments", 0, fake_store.chain(z, 0)) for z in (1, 2)]
    for point, values in zip(points, ((0.25, 3.5), (0.5, 12.25)), strict=True):
        metrics = dict(zip(("mAP", "rank"), values, strict=True))
        for spec in point.chain:
            fake_store.finish(store, spec, metrics if spec.name == "test" else {}, declared=declared)
    found = states(merge(point.chain for point in points), store, None)

    result_table(of_points(points, {}, found))
    assert capsys.readouterr().out == "\n" + golden("""
        method       seeds    mAP   mean rank
        ─────────────────────────────────────
        1 segments       1   25.0         3.5
        2 segments       1   50.0        12.2
        mAP in percent, mean rank: mean ± standard deviation over the seeds
        """)
    status_table(found)
    assert "mAP 50.0 %" in capsys.readouterr().out

    config = fake_store.config(tmp_path, {"name": "any"})
    report.execute(points, config)
    assert "Highest mAP: 2 segments, 50.0 % (1 seed; ucf101 test)." in capsys.readouterr().out
    text = (written(config, "any") / "table.md").read_text()
    assert "| method | mAP | seeds |" in text
    assert "- other metrics: mean rank 3.5\n" in text
    html = (written(config, "any") / "index.html").read_text()
    assert '<th scope="col">mAP</th>' in html
    assert "<dd>mean rank 3.5</dd>" in html
    with open(written(config, "any") / "table.csv") as file:
        first, _ = csv.DictReader(file)
    assert (first["mAP mean"], first["rank mean"]) == ("25", "3.5")

    config = fake_store.config(tmp_path, {"name": "ranks", "metric": "rank"})
    report.execute(points, config)
    assert "Lowest mean rank: 1 segments, 3.5 (1 seed; ucf101 test)." in capsys.readouterr().out


@pytest.mark.parametrize("mode", ["report", "status", "logs"])
def test_what_only_reads_needs_neither_torch_nor_mlflow(mode):
    code = f"import sys, vssl.commands.{mode}; print({{'torch', 'mlflow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
