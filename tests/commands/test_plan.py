"""mode=plan: what it costs, and data sets that are not there."""

from importlib import import_module

import numpy as np
import pytest
from omegaconf import OmegaConf, open_dict

from conftest import composed, planted_index
from vssl import pipeline
from vssl.commands.plan import execute, plan
from vssl.data.index import index_path, write
from vssl.errors import VsslError
from vssl.pipeline import Point
from vssl.result import Cost, StageResult
from vssl.stage.store import StageStore

REAL = ["auxiliary=none", "backbone=r2plus1d_10", "source=kinetics100", "downstream=hmdb51"]


@pytest.fixture
def printed(capsys, tmp_path):
    """What mode=plan prints for one point, as lines."""

    def lines(*overrides):
        cfg = composed(f"outputs={tmp_path}", *overrides)
        execute([Point("this run", 0, plan(cfg), cfg=cfg)], cfg)
        return capsys.readouterr().out.splitlines()

    return lines


def finish(store, spec, seconds=1.0, **others):
    cost = {"seconds": seconds, **others}
    with store.claim(spec):
        store.finish(spec, StageResult({}, {}, Cost(**cost), {"device": "cuda:0"}))


def test_data_sets_that_are_not_there_count_as_published(printed):
    *table, total, cost, note = printed(*REAL, "downstream.split=2")
    stages = [line.split() for line in table[3:]]
    assert [words[:2] for words in stages] == [["–", name] for name in ("pretext", "finetune", "test")]  # noqa: RUF001
    assert [words[-1] for words in stages] == [f"{32552 * 20:,}", f"{3570 * 25:,}", f"{1530 * 10:,}"]
    assert total == "1 point, 3 stages asked for, 3 distinct, 0 already done"
    assert cost.startswith(
        f"to do: {32552 * 20 + 3570 * 25 + 1530 * 10:,} clips; stages of these kinds were never timed here"
    )
    assert note == (
        "not checked: kinetics100, hmdb51; counted as published, and stages have no key before: "
        "python launch.py -m mode=check source=kinetics100,hmdb51 roots.kinetics100=DIR roots.hmdb51=DIR"
    )


def test_candidates_and_what_is_chosen_from_them_are_shown(printed):
    choose = ["protocol.choose={training.optimizer.lr:[0.1,0.2]}", "downstream.train.per_class=4"]
    *table, total, _ = printed("auxiliary=none", "pretext=none", *choose)
    assert [(line.split()[1], " ".join(line.split()[4:]).partition(", seed")[0]) for line in table[3:]] == [
        ("finetune", "synthetic x 24, 18 epochs"),
        ("test", "synthetic x 8 held out"),
        ("finetune", "synthetic x 24, 18 epochs"),
        ("test", "synthetic x 8 held out"),
        ("finetune", "synthetic x 32, 18 epochs, chosen: training.optimizer.lr"),
        ("test", "synthetic x 160"),
    ]
    assert ["lr=0.1" in line for line in table[3:]] == [True, True, False, False, False, False]
    assert total == "1 point, 6 stages asked for, 6 distinct, 0 already done"


def test_what_is_checked_has_its_key_and_what_starts_from_it_may_not(printed, tmp_path):
    roots = [f"roots.kinetics100={tmp_path}", f"roots.hmdb51={tmp_path / 'hmdb'}"]
    (tmp_path / "hmdb").mkdir()
    cfg = composed(f"outputs={tmp_path}", *REAL, *roots)
    write(planted_index(20), index_path(OmegaConf.to_container(cfg.source, resolve=True)))
    *table, _, _, note = printed(*REAL, *roots)
    assert [line.split()[0] == "–" for line in table[3:]] == [False, True, True]  # noqa: RUF001
    assert "kinetics100 x 20," in table[3]
    assert note.endswith(f"python launch.py mode=check source=hmdb51 roots.hmdb51={tmp_path / 'hmdb'}")
    with pytest.raises(
        VsslError, match=r"^hmdb51: \S+ is not checked yet; run: python launch\.py mode=check"
    ):
        pipeline.plan(cfg)


def test_only_the_plan_makes_do_without():
    with pytest.raises(
        VsslError, match=r"^roots\.hmdb51=null: not set; give the folder of the videos of hmdb51$"
    ):
        pipeline.plan(composed("downstream=hmdb51"))


def test_a_set_without_published_numbers_has_to_be_checked(tmp_path):
    with pytest.raises(VsslError, match=r"^folder: \S+ is not checked yet"):
        plan(composed("source=folder", f"source.root={tmp_path}"))
    with pytest.raises(VsslError, match=r"root=/no/such: no such folder; give the folder of your videos$"):
        plan(composed("source=folder", "source.root=/no/such"))
    (odd := tmp_path / "my videos").mkdir()
    with pytest.raises(VsslError, match=rf"mode=check source=folder 'source\.root={odd}'"):
        plan(composed("source=folder", f"source.root='{odd}'"))
    with pytest.raises(
        VsslError, match=r"^roots\.kinetics400=null: not set; give the folder of the videos of kinetics100$"
    ):
        plan(composed("downstream=kinetics100"))


def test_a_share_that_is_held_out_counts():
    cfg = composed(*REAL, "downstream.validation=0.1", "downstream.test.subset=val")
    _, finetune, test = plan(cfg)
    assert (finetune.recipe.data["num_videos"], test.recipe.data["num_videos"]) == (3213, 357)


def test_kinetics100_lies_in_kinetics400_unless_said_otherwise():
    assert composed("source=kinetics100", "roots.kinetics400=/k").source.root == "/k"
    assert composed("source=kinetics100", "roots.kinetics400=/k", "source.root=/own").source.root == "/own"


def test_hours_at_a_given_speed(printed):
    line = printed("source.num_videos=90000", "pretext.training.epochs=20", "plan.clips_per_s=100")[-1]
    clips = 90000 * 2 * 6 + 90000 * 20 + 160 * 18 + 160 * 10
    assert line == f"to do: {clips:,} clips, {clips / 100 / 3600:.1f} hours on one device at 100 clips/s"


def test_hours_as_measured(printed, tmp_path):
    store = StageStore(tmp_path)
    for spec in plan(composed("seed=1"))[:2]:
        finish(store, spec, clips=100, seconds=50.0, gpus=4)
    *_, total, line = printed("source.num_videos=32000")
    assert total.endswith("0 already done")
    hours = (32000 * 2 * 6 + 32000 * 12) / 2 / 3600
    assert line == (
        f"to do: {32000 * 24 + 160 * 28:,} clips, {hours:.1f} hours as measured here on cuda "
        f"({4 * hours:.1f} GPU hours); without 2 stages of kinds never timed here "
        "(plan.clips_per_s=... times all)"
    )


def test_nothing_to_do_costs_nothing(printed, tmp_path):
    store = StageStore(tmp_path)
    for spec in plan(composed(f"outputs={tmp_path}")):
        finish(store, spec)
    assert printed()[-1] == "1 point, 4 stages asked for, 4 distinct, 4 already done"


@pytest.mark.parametrize("mode", [["mode=check"], ["mode=prepare", "prepare.out=/elsewhere"]])
def test_other_modes_say_what_to_give(mode):
    name = mode[0].removeprefix("mode=")
    with pytest.raises(
        VsslError, match=r"^source\.root=null: not set; give the folder of the videos of ucf101$"
    ):
        import_module(f"vssl.commands.{name}").execute(composed("source=ucf101", *mode))


def test_it_says_which_rows_of_a_table_cannot_run(capsys, tmp_path):
    cfg = composed(f"outputs={tmp_path}")
    with open_dict(cfg):
        cfg.sweep = {"not_run": [{"label": "8 ASCNet", "published": {"UCF101": 80.5}, "reason": "not built"}]}
    execute([Point("this run", 0, plan(cfg), cfg=cfg)], cfg)
    assert capsys.readouterr().out.splitlines()[-1] == "not run: 8 ASCNet: not built"


def test_it_says_how_many_videos_a_sampler_leaves_out(printed):
    """VCOP needs 3 x 16 frames and two gaps of 8."""
    lines = printed("pretext=vcop", "source.num_videos=40")
    lengths = [int(np.random.default_rng([0, False, i]).integers(30, 121)) for i in range(40)]
    short = sum(length < 64 for length in lengths)
    assert 0 < short < 40
    assert lines[-1].startswith(f"left out: {short} of 40 videos of synthetic, shorter than the 64 frames")
    assert not any(line.startswith("left out") for line in printed("pretext=vspp"))
