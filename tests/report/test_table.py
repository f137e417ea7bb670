import io
from textwrap import dedent

import pytest

from vssl.report.table import (
    Outcome,
    PlanRow,
    Point,
    outcome_table,
    plan_table,
    result_table,
)

PLAN = [
    PlanRow("3f2a91c0", "auxiliary", "auxSKD on synthetic", "done", 51_200),
    PlanRow("77aa03d1", "pretext", "vspp [3 segments]", "to do", 3200),
]
LOG = "/a/folder/with/a/rather/long/name/so/that/it/does/not/fit/outputs/stages/finetune/77aa/log.txt"
OUTCOMES = [
    Outcome("pretext", "3f2a", "vspp", "done", "", None, 3725.0),
    Outcome("auxiliary", "cc01", "auxSKD", "reused", "", None, 0.0),
    Outcome("finetune", "77aa", "ucf101 [split 1]", "failed", "out of memory", LOG, 3.2),
    Outcome("test", "bb02", "ucf101", "skipped", "finetune 77aa failed", None, 0.0),
]


def point(label, seed, clip, video, top5=0.9):
    metrics = {"clip_top1": clip, "video_top1": video, "clip_top5": 0.8, "video_top5": top5, "chance": 0.25}
    return Point(label, seed, metrics)


# vspp: clip 40, 42, 47: mean 43, deviations -3, -1, 4: variance (9 + 1 + 16) / 2 = 13, sd 3.606
POINTS = [
    point("vspp", 0, 0.40, 0.50),
    point("scratch | none", 0, 0.203, 0.255, top5=0.5),
    point("vspp", 1, 0.42, 0.52),
    Point("vcop", 0, None),
    point("vcop", 1, 0.30, 0.35),
    point("vspp", 2, 0.47, 0.54, top5=0.96),
    Point("pace", 0, None),
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


def test_outcomes_with_reasons_and_logs_in_full(capsys):
    outcome_table(OUTCOMES)
    assert capsys.readouterr().out == golden(f"""
        stage       key    what               status       time
        ───────────────────────────────────────────────────────
        pretext     3f2a   vspp               done      1:02:05
        auxiliary   cc01   auxSKD             reused       0:00
        finetune    77aa   ucf101 [split 1]   failed       0:03
        test        bb02   ucf101             skipped      0:00
        1 done, 1 reused, 1 failed, 1 skipped
        finetune 77aa failed: out of memory
            {LOG}
        test bb02 skipped: finetune 77aa failed
        """)


def test_results_by_label_with_sample_deviation_and_missing_runs(capsys):
    result_table(POINTS)
    assert capsys.readouterr().out == golden("""
        method            seeds   clip top-1   video top-1   video top-5   chance
        ─────────────────────────────────────────────────────────────────────────
        vspp                  3   43.0 ± 3.6    52.0 ± 2.0          92.0     25.0
        scratch | none        1     20.3 ± –      25.5 ± –          50.0     25.0
        vcop             1 of 2     30.0 ± –      35.0 ± –          90.0     25.0
        pace             0 of 1            –             –             –        –
        in percent: mean ± standard deviation over the seeds
        """)  # noqa: RUF001


def test_only_metrics_that_any_point_has_are_shown(capsys):
    knn = [
        Point("knn", seed, {"video_top1": 0.5, "mean_class_top1": 0.4, "chance": 0.25}) for seed in range(2)
    ]
    result_table(knn)
    assert capsys.readouterr().out == golden("""
        method   seeds   video top-1   chance
        ─────────────────────────────────────
        knn          2    50.0 ± 0.0     25.0
        in percent: mean ± standard deviation over the seeds
        """)
    recall = {f"recall_at_{k}": k / 100 for k in (1, 5, 10, 20, 50)}
    result_table([*knn, Point("retrieval", 0, recall)])
    assert capsys.readouterr().out == golden("""
        method      seeds   video top-1   recall at 1   recall at 5   recall at 20   chance
        ───────────────────────────────────────────────────────────────────────────────────
        knn             2    50.0 ± 0.0             –             –              –     25.0
        retrieval       1             –       1.0 ± –           5.0           20.0        –
        in percent: mean ± standard deviation over the seeds
        """)  # noqa: RUF001


def test_without_any_result_there_are_only_counts(capsys):
    result_table([Point("vspp", 0, None)])
    assert capsys.readouterr().out.splitlines()[3].split() == ["vspp", "0", "of", "1"]


def test_columns_are_rows_of_their_own(capsys):
    points = [
        Point("vspp", seed, {"video_top1": value}, column)
        for column, values in {"UCF101": (0.5, 0.7), "HMDB51": (0.2, 0.2)}.items()
        for seed, value in enumerate(values)
    ]
    result_table(points)
    assert capsys.readouterr().out == golden("""
        method   tested on   seeds   video top-1
        ────────────────────────────────────────
        vspp     UCF101          2   60.0 ± 14.1
        vspp     HMDB51          2    20.0 ± 0.0
        in percent: mean ± standard deviation over the seeds
        """)


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
