import io
from textwrap import dedent

import pytest

import fake_store
from vssl.dispatch.states import states
from vssl.pipeline import merge
from vssl.report.collect import of_points
from vssl.report.table import PlanRow, outcome_table, plan_table, result_table, status_table
from vssl.result import Metric
from vssl.stage.context import Outcome

PLAN = [
    PlanRow("3f2a91c0", "auxiliary", "auxSKD on synthetic", "done", 51_200),
    PlanRow("77aa03d1", "pretext", "vspp [3 segments]", "to do", 3200),
]
TOP5, CHANCE = Metric("video_top5", "video top-5"), Metric("chance", "chance")
CLASSIFICATION = [Metric("clip_top1", "clip top-1"), fake_store.VIDEO_TOP1, TOP5, CHANCE]


def of_test(seed, label="a", task="Classification", data="ucf101"):
    parent = fake_store.stage("finetune", label, fake_store.videos(data), seed)
    return fake_store.stage("test", task, fake_store.videos(data, "test"), seed, parent)


def show(store, *runs, declared=CLASSIFICATION):
    """Print the result table of runs (label, seed, metrics, and what further `of_test` takes)."""
    points = []
    for label, seed, metrics, *others in runs:
        spec = of_test(seed, label, *others)
        if metrics:
            fake_store.finish(store, spec, metrics, declared=declared)
        points.append(fake_store.point(label, seed, spec.chain))
    result_table(of_points(points, {}, states(merge(p.chain for p in points), store, None)))


def top1(clip, video, top5=0.9):
    return {"clip_top1": clip, "video_top1": video, "video_top5": top5, "chance": 0.25}


# vspp: clip 40, 42, 47: mean 43; video 50, 52, 54: mean 52, deviations -2, 0, 2: variance 4, sd 2;
# the interval of the mean reaches 4.303 * 2 / sqrt(3) = 4.97 to both sides.
RUNS = [
    ("vspp", 0, top1(0.40, 0.50)),
    ("scratch | none", 0, top1(0.203, 0.255, 0.5)),
    ("vspp", 1, top1(0.42, 0.52)),
    ("vcop", 0, None),
    ("vcop", 1, top1(0.30, 0.35)),
    ("vspp", 2, top1(0.47, 0.54, 0.96)),
    ("pace", 0, None),
]


def golden(text):
    return "\n" + dedent(text).lstrip("\n")


def test_plan(capsys):
    plan_table(PLAN, num_points=2, num_asked=7)
    assert capsys.readouterr().out == golden("""
        key        stage       what                  state    clips
        ───────────────────────────────────────────────────────────
        3f2a91c0   auxiliary   auxSKD on synthetic   done    51,200
        77aa03d1   pretext     vspp [3 segments]     to do    3,200
        2 points, 7 stages asked for, 2 distinct, 1 already done
        """)


def test_plan_of_one_point_with_one_stage(capsys):
    plan_table(PLAN[:1], num_points=1, num_asked=1)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "1 point, 1 stage asked for, 1 distinct, 1 already done"


def test_outcomes_with_reasons_and_logs_in_full(capsys, tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(1, 0)
    pretext, finetune, test = chain
    outcomes = [
        Outcome(pretext, "done", "", 3725.0),
        Outcome(finetune, "failed", "out of memory", 3.2),
        Outcome(test, "skipped", f"{finetune} failed"),
    ]
    outcome_table(outcomes, store)
    assert capsys.readouterr().out == golden(f"""
        stage      key                what                                                    status       time
        ───────────────────────────────────────────────────────────────────────────────────────────────────────
        pretext    {pretext.key}   VSPP, R3D, kinetics100 x 1000, 20 epochs, seed 0        done      1:02:05
        finetune   {finetune.key}   Classification, R3D, ucf101 x 9537, 25 epochs, seed 0   failed       0:03
        test       {test.key}   Classification, R3D, ucf101 x 3783, seed 0              skipped      0:00
        1 done, 1 failed, 1 skipped
        finetune {finetune.key} failed: out of memory
            {store.folder(finetune)}/log.txt
        test {test.key} skipped: {finetune} failed
        """)  # noqa: E501


def test_results_by_label_with_sample_deviation_and_missing_runs(capsys, tmp_path):
    show(fake_store.store_in(tmp_path), *RUNS)
    assert capsys.readouterr().out == golden("""
        method            seeds   clip top-1   video top-1   video top-5   chance
        ─────────────────────────────────────────────────────────────────────────
        vspp                  3   43.0 ± 3.6    52.0 ± 2.0    92.0 ± 3.5     25.0
        scratch | none        1         20.3          25.5          50.0     25.0
        vcop             1 of 2         30.0          35.0          90.0     25.0
        pace             0 of 1            –             –             –        –
        in percent: mean ± standard deviation over the seeds

        method           video top-1   95 % (seeds)
        ───────────────────────────────────────────
        vspp                    52.0   [47.0, 57.0]
        scratch | none          25.5              –
        vcop                    35.0              –
        95 % (seeds): t interval of the mean, by the spread of the seeds.
        """)  # noqa: RUF001


def test_a_protocol_with_another_headline_has_rows_of_its_own(capsys, tmp_path):
    store = fake_store.store_in(tmp_path)
    recall = [Metric("recall_at_1", "recall at 1", headline=True), CHANCE]
    show(store, ("a", 0, {"recall_at_1": 0.5, "chance": 0.125}, "Retrieval"), declared=recall)
    capsys.readouterr()
    show(store, ("a", 0, None, "Retrieval"), ("a", 1, top1(0.5, 0.75)))
    assert capsys.readouterr().out == golden("""
        method   seeds   recall at 1   chance   clip top-1   video top-1   video top-5
        ──────────────────────────────────────────────────────────────────────────────
        a            1          50.0     12.5            –             –             –
        a            1             –     25.0         50.0          75.0          90.0
        in percent: mean ± standard deviation over the seeds
        """)  # noqa: RUF001


def test_without_any_result_there_are_only_counts(capsys, tmp_path):
    show(fake_store.store_in(tmp_path), ("vspp", 0, None))
    assert capsys.readouterr().out.splitlines()[3].split() == ["vspp", "0", "of", "1"]


def test_columns_are_rows_of_their_own_and_say_what_took_the_place_of_their_videos(capsys, tmp_path):
    store = fake_store.store_in(tmp_path)
    points = []
    for column, data, values in (("UCF101", "ucf101", (0.5, 0.7)), ("HMDB51", "synthetic", (0.2, 0.2))):
        for seed, value in enumerate(values):
            spec = of_test(seed, data=data)
            fake_store.finish(store, spec, {"video_top1": value})
            points.append(fake_store.point("vspp", seed, spec.chain, column))
    result_table(of_points(points, {}, states(merge(p.chain for p in points), store, None)))
    assert capsys.readouterr().out == golden("""
        method   tested on           seeds   video top-1
        ────────────────────────────────────────────────
        vspp     UCF101                  2   60.0 ± 14.1
        vspp     HMDB51: synthetic       2    20.0 ± 0.0
        in percent: mean ± standard deviation over the seeds

        method   in                   mean     95 % (seeds)
        ───────────────────────────────────────────────────
        vspp     UCF101 video top-1   60.0   [−67.1, 187.1]
        vspp     HMDB51 video top-1   20.0                –
        95 % (seeds): t interval of the mean, by the spread of the seeds.
        """)  # noqa: RUF001


def test_rows_stand_above_what_they_are_less_their_baselines(capsys, tmp_path):
    """Differences of 1, 3 and 5 points: mean 3, standard error 2 / sqrt(3); t = 2.6, t(0.975; 2) = 4.303."""
    store, points = fake_store.store_in(tmp_path), []
    for label, tops in (("scratch", (0.30, 0.30, 0.30)), ("vspp", (0.31, 0.33, 0.35))):
        for seed, value in enumerate(tops):
            spec = of_test(seed, label)
            fake_store.finish(store, spec, {"video_top1": value})
            points.append(fake_store.point(label, seed, spec.chain))
    sweep = {"rows": [{"label": "scratch"}, {"label": "vspp", "baseline": "scratch"}]}
    result_table(of_points(points, sweep, states(merge(p.chain for p in points), store, None)))
    assert capsys.readouterr().out.split("the seeds\n")[1] == golden("""
        method            video top-1   95 % (seeds)      p
        ───────────────────────────────────────────────────
        scratch                  30.0              –
        vspp                     33.0   [28.0, 38.0]
          minus scratch          +3.0    [−2.0, 8.0]   0.12
        vspp minus scratch: not distinguishable: 3 seeds can detect differences of 6.5 or more
        95 % (seeds): t interval of the mean, by the spread of the seeds.
        p: paired t test, two-sided, over the seeds that both rows have done on the same test videos.
        The table makes 1 comparison.
        Distinguishable: p below 0.05, and 0 outside the interval over videos.
        What seeds can detect: the least difference found in 80 % of all cases (power) at 0.05, if it varies as theirs.
        """)  # noqa: E501, RUF001


def test_status_has_totals_and_the_logs_of_what_failed(capsys, tmp_path):
    store, chain = fake_store.store_in(tmp_path), fake_store.chain(1, 0)
    fake_store.finish(store, chain[0])
    store.fail(chain[1], "out of memory")
    (store.folder(chain[1]) / "log.txt").touch()
    status_table(states(chain, store, None))
    *_, failed, log, total = capsys.readouterr().out.splitlines()
    assert failed == f"finetune {chain[1].key} failed: out of memory"
    assert log == f"    {store.folder(chain[1])}/log.txt"
    assert total == "1 done, 1 failed, 1 to do; 2.0 GPU hours in finished stages"


@pytest.mark.parametrize("columns", ["40", "200"])
def test_a_piped_table_is_never_cut(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    plan_table([PlanRow("3f2a", "pretext", "x" * 500, "to do", 1)], num_points=1, num_asked=1)
    out = capsys.readouterr().out
    assert "x" * 500 in out
    assert "\x1b" not in out


def test_a_terminal_gets_colours_and_folds_what_is_too_wide(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    plan_table([PlanRow("3f2a", "pretext", "x" * 100, "to do", 1)], num_points=1, num_asked=1)
    out = terminal.getvalue()
    assert "\x1b[33m" in out
    assert out.count("x") == 101  # one is in "pretext"
