"""The sweep files: what the paper's tables say, and what a launch of them asks for."""

from functools import cache
from itertools import chain

import pytest
from omegaconf import OmegaConf

from conftest import ROOT, configs
from vssl.commands.plan import plan
from vssl.errors import VsslError
from vssl.options import check_options
from vssl.pipeline import merge
from vssl.report.baseline import with_baselines
from vssl.report.model import Row
from vssl.stage.construct import Stage

R2PLUS1D, R3D = "vssl.backbone.r2plus1d.R2Plus1D", "vssl.backbone.resnet3d.R3D"
MOST_CLIPS = 3000  # of a stage in a rehearsal: VCOP's 300 epochs, a tenth of them
NETWORKS = {
    "R(2+1)D": R2PLUS1D,
    "R3D-18": R3D,
    "C3D": "vssl.backbone.c3d.C3D",
    "I3D": "vssl.backbone.i3d.I3D",
}
HARA, TORCHVISION = "vssl.backbone.hara.ResNet3D", "vssl.backbone.torchvision_nets.VideoResNet18"
OTHER_NETS = {6: TORCHVISION, 7: HARA, 9: HARA, 12: TORCHVISION}
"""Networks of other papers under the same names."""
CLIPS = {4: (16, 224), 6: (32, 112), 9: (16, 224), 12: (32, 112), 14: (16, 224)}
"""Frames and pixels where they are not those of all other rows."""
DATA = {"UCF101": "ucf101", "HMDB51": "hmdb51"}
SOURCES = {"K-400": "kinetics400", "K-100": "kinetics100", "UCF101": "ucf101"}

# row: method, network, pretraining data, epochs, UCF101, HMDB51
TABLE_1 = {
    3: ("VCOP", "C3D", "UCF101", 300, 65.6, 28.4),  # the paper has no epochs; its released code has these
    4: ("SpeedNet (two speeds alone)", "I3D", "K-400", 20, None, None),  # no epochs are published
    5: ("VideoPace (pace alone)", "R3D-18", "K-400", 18, None, None),  # published: with a contrastive loss
    6: ("VideoMoCo", "R3D-18", "K-400", 200, 74.1, 43.6),
    7: ("RSPNet", "R3D-18", "K-400", 200, 74.3, 41.8),
    9: ("CEP (plain batch norm)", "R3D-18", "K-400", 50, None, None),  # published: with another batch norm
    10: ("Ours", "R3D-18", "K-400", 40, 67.9, 32.6),
    11: ("VideoPace (pace alone)", "R(2+1)D", "K-400", 18, None, None),
    12: ("VideoMoCo", "R(2+1)D", "K-400", 200, 78.7, 49.2),
    13: ("RSPNet", "R(2+1)D", "K-400", 200, 81.1, 44.6),
    14: ("CEP (plain batch norm)", "R(2+1)D", "K-400", 50, None, None),
    15: ("Ours", "R(2+1)D", "K-400", 20, 77.6, 40.4),
    16: ("VCOP", "R(2+1)D", "K-100", 200, 71.4, 32.1),
    17: ("VCOP + auxSKD", "R(2+1)D", "K-100", 200, 72.6, 32.5),
    18: ("VideoPace", "R(2+1)D", "K-100", 18, 73.8, 36.2),
    19: ("VideoPace + auxSKD", "R(2+1)D", "K-100", 18, 76.1, 38.6),
    20: ("RSPNet", "R(2+1)D", "K-100", 200, 74.7, 37.4),
    21: ("RSPNet + auxSKD", "R(2+1)D", "K-100", 200, 75.5, 39.0),
    22: ("Ours", "R(2+1)D", "K-100", 20, 76.3, 39.6),
    23: ("VCOP", "R3D-18", "K-100", 200, 58.2, 25.2),
    24: ("VCOP + auxSKD", "R3D-18", "K-100", 200, 60.7, 28.4),
    25: ("VideoPace", "R3D-18", "K-100", 18, 57.5, 23.5),
    26: ("VideoPace + auxSKD", "R3D-18", "K-100", 18, 60.9, 27.1),
    27: ("RSPNet", "R3D-18", "K-100", 200, 60.2, 32.6),
    28: ("RSPNet + auxSKD", "R3D-18", "K-100", 200, 61.9, 33.4),
    29: ("Ours", "R3D-18", "K-100", 20, 62.9, 33.0),
}
TABLE_1_NOT_RUN = {
    "1 Shuffle & Learn": (50.2, 18.1),
    "2 OPN": (59.8, 23.8),
    "4 SpeedNet": (66.7, 43.7),
    "5 VideoPace": (63.7, 27.9),
    "8 ASCNet": (80.5, 52.3),
    "9 CEP": (75.9, 36.6),
    "11 VideoPace": (77.1, 36.6),
    "14 CEP": (76.7, 37.6),
}
PROTOCOLS = {3: "finetune_vcop", 7: "finetune_rspnet", 13: "finetune_rspnet"}
"""Rows of other papers are tested as these papers do, whatever `experiment` says."""
# network, pretraining data, auxSKD, epochs, UCF101, HMDB51; the epochs on K-400 as in row 10 of Table 1
TABLE_2 = [
    ("R(2+1)D", "UCF101", False, 20, 76.0, 37.4),
    ("R(2+1)D", "UCF101", True, 20, 77.3, 38.6),
    ("R(2+1)D", "K-100", False, 20, 74.0, 37.3),
    ("R(2+1)D", "K-100", True, 20, 76.3, 39.6),
    ("R3D-18", "K-400", False, 40, 65.8, 28.8),
    ("R3D-18", "K-400", True, 40, 67.9, 32.6),
    ("R3D-18", "K-100", False, 20, 60.8, 26.3),
    ("R3D-18", "K-100", True, 20, 62.9, 33.0),
]
# temperatures of teacher and student, UCF101
TABLE_3 = [
    (0.01, 0.01, 75.0),
    (0.02, 0.02, 76.3),
    (0.05, 0.05, 75.3),
    (0.07, 0.07, 74.9),
    (0.1, 0.1, 74.9),
    (0.01, 0.1, 75.5),
    (0.02, 0.1, 75.0),
]
# weights of the speed and the segment loss, segments, UCF101
TABLE_4 = [
    (1, 1, 1, 57.5),
    (1, 1, 2, 57.5),
    (1, 1, 3, 59.5),
    (1, 1, 4, 60.8),
    (1, 0, 4, 58.3),
    (0, 1, 4, 59.9),
]
# auxSKD, epochs, UCF101 where the paper prints it
FIGURE_4 = [
    (False, 10, None),
    (False, 20, 74.0),
    (False, 30, None),
    (False, 40, None),
    (True, 10, None),
    (True, 20, 76.3),
    (True, 30, None),
    (True, 40, None),
]
# points, stages asked for, distinct ones
SIZES = {
    "quickstart": (9, 27, 27),
    "controls": (36, 129, 126),
    "table1": (52, 176, 140),
    "table2": (16, 56, 44),
    "table3": (7, 28, 28),
    "table4": (6, 18, 18),
    "figure4": (8, 28, 25),
}
PUBLISHED = ["table1", "table2", "table3", "table4", "figure4"]
"""Sweeps of the paper; together they have 223 distinct stages (see the test)."""


@cache
def chains(*words):
    """The stages of all points, as mode=plan has them."""
    return [plan(cfg) for cfg in configs(*words)]


def sweep_file(name):
    return OmegaConf.to_container(OmegaConf.load(ROOT / "sweeps" / f"{name}.yaml").sweep)


def table(name):
    """The row of the file and the configs of its columns, row by row."""
    sweep = sweep_file(name)
    points, columns = configs(f"+sweeps={name}"), [column["label"] for column in sweep["columns"]]
    found = [(cfg.label, cfg.column) for cfg in points]
    assert found == [(row["label"], column) for row in sweep["rows"] for column in columns]
    rows = [points[start : start + len(columns)] for start in range(0, len(points), len(columns))]
    for row in rows:
        assert [cfg.downstream.train.name for cfg in row] == [label.lower() for label in columns]
    return list(zip(sweep["rows"], rows, strict=True))


def test_table_1():
    for (number, row), (entry, points) in zip(TABLE_1.items(), table("table1"), strict=True):
        method, network, source, epochs, ucf101, hmdb51 = row
        assert entry["label"] == f"{number} {method}, {network}, {source}, {epochs} epochs"
        assert entry.get("published") == ({"UCF101": ucf101, "HMDB51": hmdb51} if ucf101 else None)
        protocol = [f"protocol={PROTOCOLS[number]}"] if number in PROTOCOLS else []
        assert [line for line in entry.get("defaults", []) if "protocol" in line] == protocol
        assert ("recipe=as_released" in entry["overrides"]) == bool(protocol)
        for cfg in points:
            pretext = "VSPP" if method == "Ours" else method.split()[0]
            assert cfg.pretext._target_.endswith(f".{pretext}")
            assert bool(cfg.auxiliary._target_) == ("Ours" in method or "auxSKD" in method)
            assert cfg.protocol.test.average == ("logits" if protocol else "softmax")
            assert_pretraining(cfg, network, source, epochs, OTHER_NETS.get(number))
            clip = cfg.protocol.sampler.num_frames, cfg.protocol.augmentation.crop.size
            assert clip == CLIPS.get(number, (16, 112))


def test_rows_of_table_1_that_cannot_run():
    entries = sweep_file("table1")["not_run"]
    found = {one["label"].partition(",")[0]: tuple(one["published"].values()) for one in entries}
    assert found == TABLE_1_NOT_RUN
    assert all(one.keys() == {"label", "published", "reason"} for one in entries)
    without = {number for number, row in TABLE_1.items() if row[4] is None}
    numbers = {int(label.split()[0]) for label in found}
    assert without <= numbers  # what runs under another name stands with its number too
    assert numbers | set(TABLE_1) == set(range(1, 30))


def test_another_protocol_takes_the_place_of_those_of_table_1():
    for words, stages in (("protocol=linear", "linear test"), ("protocol=knn", "gallery queries test")):
        for point in chains("+sweeps=table1", words):
            assert " ".join(spec.name for spec in point).endswith(stages)
    points = {cfg.label.split()[0]: cfg for cfg in configs("+sweeps=table1", "protocol=linear")}
    assert points["3"].pretext.training.batch_size == 8  # still its own recipe


def test_rows_of_other_papers_have_their_recipe_whatever_the_experiment_says():
    points = {cfg.label.split()[0]: cfg for cfg in configs("+sweeps=table1", "experiment=as_paper")}
    assert (points["3"].pretext.training.batch_size, points["3"].protocol.training.epochs) == (8, 150)
    assert (points["7"].pretext.training.batch_size, points["7"].protocol.training.batch_size) == (256, 128)
    assert (points["13"].pretext.training.batch_size, points["13"].protocol.training.batch_size) == (128, 32)
    assert (points["16"].pretext.training.batch_size, points["16"].protocol.training.batch_size) == (30, 30)


def test_table_2():
    for row, (entry, points) in zip(TABLE_2, table("table2"), strict=True):
        network, source, auxskd, epochs, ucf101, hmdb51 = row
        assert entry["label"] == f"{'Ours' if auxskd else 'Ours - auxSKD'}, {network}, {source}"
        assert entry["published"] == {"UCF101": ucf101, "HMDB51": hmdb51}
        for cfg in points:
            assert cfg.pretext._target_.endswith(".VSPP")
            assert bool(cfg.auxiliary._target_) == auxskd
            assert_pretraining(cfg, network, source, epochs)


def test_table_3():
    for (teacher, student, ucf101), (entry, [cfg]) in zip(TABLE_3, table("table3"), strict=True):
        assert entry["label"] == f"{teacher} / {student}"
        assert entry["published"] == {"UCF101": ucf101}
        assert entry.get("x") == (teacher if teacher == student else None)
        assert (cfg.auxiliary.teacher_temperature, cfg.auxiliary.student_temperature) == (teacher, student)
        assert_pretraining(cfg, "R(2+1)D", "K-100", 20)


def test_table_4():
    for (speed, segment, segments, ucf101), (entry, [cfg]) in zip(TABLE_4, table("table4"), strict=True):
        assert entry["published"] == {"UCF101": ucf101}
        assert entry.get("x") == (segments if speed and segment else None)
        assert (cfg.pretext.speed_weight, cfg.pretext.segment_weight) == (speed, segment)
        assert (cfg.pretext.sampler.num_segments, cfg.pretext.sampler.max_speed) == (segments, 4)
        assert cfg.auxiliary._target_ is None
        assert_pretraining(cfg, "R3D-18", "K-100", 20)


def test_figure_4():
    for (auxskd, epochs, ucf101), (entry, [cfg]) in zip(FIGURE_4, table("figure4"), strict=True):
        assert entry.get("published") == ({"UCF101": ucf101} if ucf101 else None)
        assert (entry["series"], entry["x"]) == ("VSPP + auxSKD" if auxskd else "VSPP", epochs)
        assert bool(cfg.auxiliary._target_) == auxskd
        assert_pretraining(cfg, "R(2+1)D", "K-100", epochs)


def assert_pretraining(cfg, network, source, epochs, other_net=None):
    assert cfg.backbone._target_ == (other_net or NETWORKS[network])
    assert cfg.source.name == SOURCES[source]
    assert cfg.pretext.training.epochs == epochs
    assert not cfg.auxiliary._target_ or cfg.auxiliary.training.epochs == 20


BACKBONES = sorted(path.stem for path in (ROOT / "conf" / "backbone").glob("*.yaml"))
QUICK = ["experiment=quick"]
REHEARSALS = [
    *([f"+sweeps={name}"] for name in SIZES),
    ["+sweeps=claim", "seed=0"],
    ["+sweeps=table4", "experiment=as_paper"],
    ["+sweeps=quickstart", "experiment=as_released"],
    ["+sweeps=table3", "protocol=finetune_rspnet"],
    ["+sweeps=quickstart", "protocol.training.epochs=25", "source.num_videos=100000"],
    ["+sweeps=quickstart", "backbone=c3d", "protocol=finetune_rspnet", "experiment=as_paper"],
    ["pretext.training.epochs=25", "backbone=c3d"],
    ["pretext.training.epochs=25,30", "backbone=c3d,s3d_g", "seed=0,1"],
    ["auxiliary.queue_size=16384,16385", "pretext.training.batch_size=32,64", "backbone=r3d_10"],
    ["protocol.test.sampler.num_clips=3,10", "protocol.training.batch_size=20,30", "auxiliary=none"],
    ["experiment=as_paper", "protocol=finetune_rspnet", "pretext.training.epochs=25", "backbone=c3d"],
    [f"backbone={','.join(BACKBONES)}", "auxiliary=none"],
    ["pretext=opn,speednet,shuffle_learn,videopace,none", "auxiliary=none,auxskd", "backbone=r3d_18"],
    *([f"protocol={name}", "seed=0,1"] for name in ("linear", "retrieval", "knn", "finetune_vcop")),
]
"""What is rehearsed: every sweep, and all kinds of pipelines."""


def rehearsal(words):
    """The same with `quick` added to its experiments."""
    experiments = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    others = [word for word in words if not word.startswith("experiment=")]
    return [*others, f"experiment=[{experiments[0]},quick]"] if experiments else [*others, *QUICK]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("quick", [[], QUICK], ids=["full", "quick"])
def test_points_and_stages(name, quick):
    points = chains(f"+sweeps={name}", *quick)
    assert (len(points), sum(map(len, points)), len(merge(points))) == SIZES[name]


@pytest.mark.parametrize("quick", [[], QUICK], ids=["full", "quick"])
def test_tables_share_stages(quick):
    points = chain.from_iterable(chains(f"+sweeps={name}", *quick) for name in PUBLISHED)
    assert len(merge(points)) == 223


@pytest.mark.parametrize("words", REHEARSALS, ids=" ".join)
def test_a_rehearsal_has_all_the_stages_and_nothing_large(words):
    """As many distinct stages as without it, and each of them takes seconds."""
    whole, small = merge(chains(*words)), merge(chains(*rehearsal(words)))
    assert [(spec.name, spec.kind) for spec in small] == [(spec.name, spec.kind) for spec in whole]
    for spec in small:
        assert_small(spec)


def assert_small(spec):
    recipe = spec.recipe
    assert recipe.is_synthetic, spec
    assert recipe.backbone["_target_"].endswith(".Tiny"), spec
    assert max(recipe.backbone["widths"]) <= 64, spec
    assert (recipe.data["num_videos"], recipe.data["max_frames"]) <= (32, 96), spec
    assert not recipe.training or recipe.training["batch_size"] <= 16, spec
    assert Stage(spec).clips <= MOST_CLIPS, spec


PAIRS = {
    "table1": {17: 16, 19: 18, 21: 20, 24: 23, 26: 25, 28: 27},
    "table2": {2: 1, 4: 3, 6: 5, 8: 7},
    "table3": dict.fromkeys([1, 3, 4, 5, 6, 7], 2),
    "table4": dict.fromkeys([1, 2, 3, 5, 6], 4),
    "figure4": {5: 1, 6: 2, 7: 3, 8: 4},
}
"""Rows and the row that each is compared with: by the number in the label, or by place."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_baselines_are_the_rows_without_auxskd_or_what_the_paper_chooses(name):
    sweep = sweep_file(name)
    labels = [row["label"] for row in sweep["rows"]]
    numbers = {
        label: int(label.split()[0]) if name == "table1" else place
        for place, label in enumerate(labels, start=1)
    }
    rows = with_baselines([Row(label, []) for label in labels], sweep)
    assert {numbers[row.label]: [numbers[one] for one in row.baselines] for row in rows if row.baselines} == {
        number: [other] for number, other in PAIRS[name].items()
    }


def test_published_numbers_of_this_paper_say_the_size_of_their_test_set():
    """Split 1 (4.1), as conf/source has it; of other papers' numbers it is not known which split they are."""
    published = {name: OmegaConf.load(ROOT / f"conf/source/{name}.yaml").published for name in DATA.values()}
    sizes = {label: published[name].test[0] for label, name in DATA.items()}
    for name in PUBLISHED:
        sweep = sweep_file(name)
        columns = [column["label"] for column in sweep["columns"]]
        assert sweep["test_videos"] == {label: sizes[label] for label in columns}
        unknown = [row["label"].split()[0] for row in sweep["rows"] if "test_videos" in row]
        assert unknown == (["3", "6", "7", "12", "13"] if name == "table1" else [])


def test_seeds_can_be_added_to_any_sweep():
    points = configs("+sweeps=table4", "experiment=quick", "seed=0,1,2")
    assert [cfg.seed for cfg in points] == [0, 1, 2] * 6
    assert len({cfg.label for cfg in points}) == 6


ROWS = ["from scratch", "pretext", "pretext, equal compute", "auxSKD", "auxSKD + pretext"]


def test_claim():
    """Five rows in four columns, each at its own rate; all five see the same labelled videos."""
    words = ("+sweeps=claim", "seed=3", "pretext=vcop")
    points, found = configs(*words), chains(*words)
    assert (len(points), sum(map(len, found)), len(merge(found))) == (20, 185, 169)
    assert [(cfg.label, cfg.column) for cfg in points[:5]] == [
        *[(ROWS[0], column) for column in ("linear", "few labels", "fine-tuning", "retrieval")],
        (ROWS[1], "linear"),
    ]
    assert {row.get("baseline") for row in sweep_file("claim")["rows"]} == {None, ROWS[0], ROWS[2]}
    by_column = {}
    for cfg, stages in zip(points, found, strict=True):
        judged = [spec for spec in stages if spec.kind.name in ("classifier", "features", "test")]
        by_column.setdefault(cfg.column, []).append(
            [(spec.name, spec.recipe.data, spec.recipe.training) for spec in judged]
        )
    for alike in by_column.values():
        assert all(one == alike[0] for one in alike)
    [*_, few, _] = found[1]
    assert few.recipe.choose["options"] == {"training.optimizer.lr": [0.009, 0.03, 0.09, 0.3]}
    assert (few.recipe.num_videos, few.recipe.data["repeat"]) == (32, 5)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["pretext=vcop"],
        ["backbone=r2plus1d_10"],
        ["backbone=r2plus1d_10", "pretext=videopace", "experiment=as_released", "source.repeat=10"],
        ["backbone=r2plus1d_10", "pretext=rspnet", "experiment=as_paper"],
    ],
    ids=" ".join,
)
def test_equal_compute_is_as_many_clips(words):
    """To half an epoch of the pretext; the schedule of the longer one has the same form."""
    words = [*words, "source.num_videos=960"]  # no batch is dropped, whatever its size
    both, longer = (
        [spec for spec in plan(configs(*words, f"auxiliary={name}")[0]) if not spec.kind.labelled]
        for name in ("auxskd", "longer_pretext")
    )
    [long] = longer
    long, pretext = Stage(long), Stage(both[-1])
    per_epoch = pretext.clips / pretext.recipe.epochs
    assert abs(long.clips - sum(Stage(spec).clips for spec in both)) <= 0.51 * per_epoch
    for share in (0.1, 0.45, 0.7, 0.95):
        ours, theirs = (
            stage.training.schedule.factor_at(int(share * stage.recipe.epochs), stage.recipe.epochs)
            for stage in (long, pretext)
        )
        assert ours == pytest.approx(theirs, rel=0.25), share


def test_what_is_swept_besides_is_part_of_the_label():
    points = configs("+sweeps=table4", "experiment=quick", "pretext.training.batch_size=8,16", "seed=0,1")
    assert [cfg.label for cfg in points[:4]] == [
        f"speed, 1 segment, pretext.training.batch_size={size}" for size in (8, 8, 16, 16)
    ]


def test_rows_and_columns_of_some_words_alone():
    labels = [(cfg.label, cfg.column) for cfg in configs("+sweeps=table1", "only='29 Ours'")]
    assert labels == [("29 Ours, R3D-18, K-100, 20 epochs", column) for column in ("UCF101", "HMDB51")]
    points = configs("+sweeps=table1", "only=[HMDB51,28,29]")
    assert [(cfg.label.split()[0], cfg.column) for cfg in points] == [("28", "HMDB51"), ("29", "HMDB51")]
    check_options(points[0])  # words that are numbers are words
    points = configs("+sweeps=table2", "only=UCF101")  # rows of that source, in the column of that name
    assert [(cfg.label, cfg.column) for cfg in points] == [
        ("Ours - auxSKD, R(2+1)D, UCF101", "UCF101"),
        ("Ours, R(2+1)D, UCF101", "UCF101"),
    ]


def test_words_that_name_nothing_and_words_without_a_sweep_file_are_refused(launch):
    with pytest.raises(VsslError, match=r"^only=nonsense: no row or column is called so; "):
        configs("+sweeps=table1", "only=[29,nonsense]")
    with pytest.raises(VsslError, match=r"valid: ascnet_style, .*, vspp$"):  # the one column has no label
        configs("+sweeps=methods", "only=xyzw")
    with pytest.raises(VsslError, match=r"^only=28,29: is no sweep over values; only='\[WORD,WORD\]'"):
        configs("+sweeps=table1", "only=28,29")
    done = launch("only=nothing", "mode=plan")
    assert done.returncode == 1
    assert "only=nothing: there is no sweep file; say +sweeps=NAME" in done.stderr


SEVERE = {"ucf101": 101, "ssv2": 174, "gym99": 99, "ntu60": 60, "diving48": 48}
SEVERE |= {"gym99_fx_s1": 11, "gym99_ub_s1": 15}
"""Classes of each data set, in the order of the columns."""
FEW = [("ucf101", 10), ("gym99", 11)]
"""Videos of a class: SEVERE's 1000 examples, over 101 and 99 classes, rounded up."""


CONTROLS = {
    "from scratch": "",
    "pretext": "pretext",
    "pretext, equal compute": "pretext",
    "auxSKD alone": "auxiliary",
    "auxSKD + pretext": "auxiliary pretext",
    "random frozen teacher": "auxiliary pretext",
    "same clip twice": "auxiliary pretext",
    "no predictor": "auxiliary pretext",
    "no anchors": "auxiliary pretext",
    "queue of 1,024": "auxiliary pretext",
    "queue of 4,096": "auxiliary pretext",
    "queue of 65,536": "auxiliary pretext",
}
"""The stages before fine-tuning of each control."""


def test_controls():
    entries = sweep_file("controls")["rows"]
    assert {entry["label"] for entry in entries} == set(CONTROLS)
    stated = [sweep_file("controls")["baseline"], *(entry.get("baseline") for entry in entries)]
    assert stated[0] == "auxSKD + pretext"
    assert set(stated) - {None} <= set(CONTROLS)
    words = ["+sweeps=controls", "pretext=vcop", "auxiliary.shuffle_bn=false"]
    points, plans = configs(*words), chains(*words)
    found = {}
    for cfg, specs in zip(points, plans, strict=True):
        *before, trained, test = [spec.name for spec in specs]
        assert (trained, test) == ("finetune", "test")
        assert found.setdefault(cfg.label, " ".join(before)) == " ".join(before)
    assert found == CONTROLS
    auxiliary = {cfg.label: cfg.auxiliary for cfg in points}
    assert auxiliary["random frozen teacher"].momentum == 1
    assert auxiliary["no predictor"].predictor_layers == 0
    assert auxiliary["no anchors"].loss == "cosine"
    assert auxiliary["same clip twice"].sampler._target_.endswith(".SameClip")
    queues = {label: node.queue_size for label, node in auxiliary.items() if label.startswith("queue")}
    assert list(queues.values()) == [1024, 4096, 65536]


def test_severe():
    severe = ["+sweeps=severe", "convert.folder=nowhere"]
    points = configs(*severe, *QUICK)
    names = [(cfg.downstream.train.name, cfg.downstream.train.per_class) for cfg in points[:9]]
    assert names == [
        *((name, None) for name in list(SEVERE)[:5]),
        *FEW,
        *((n, None) for n in list(SEVERE)[5:]),
    ]
    assert {cfg.label for cfg in points} == {"from scratch", "VSPP", "auxSKD + VSPP"}
    for cfg in points:
        name = cfg.downstream.train.name
        assert (cfg.backbone.architecture, cfg.backbone.input.num_frames) == ("r2plus1d_18", 32)
        assert cfg.protocol.training.optimizer.lr == 1e-4
        assert cfg.downstream.num_classes == SEVERE[name]
        classes = cfg.downstream.train.classes
        assert (classes is None) == ("_s1" not in name)
        assert cfg.downstream.test.classes == classes
        assert classes is None or len(classes) == cfg.downstream.num_classes
    assert len(merge(chains(*severe, *QUICK))) == 3 * 9 * 2 + 3
    [other] = {cfg.backbone._target_ for cfg in configs(*severe, "backbone=tiny", "only=SS-v2")}
    assert other.endswith(".Tiny")


def test_a_value_that_the_file_sets_itself_is_refused():
    with pytest.raises(VsslError, match=r"^pretext\.training\.epochs=5: the sweep file says this itself"):
        configs("+sweeps=figure4", "pretext.training.epochs=5")


def test_a_sweep_by_hand_has_no_columns():
    words = ["auxiliary.teacher_temperature=0.01,0.02", "pretext.sampler.num_segments=1,2,3,4"]
    assert [(cfg.label, cfg.column) for cfg in configs(*words)] == [(None, None)] * 8
    assert len(merge(chains(*words))) == 8 * 4


def test_values_of_a_part_that_is_chosen_by_hand_are_kept_and_swept():
    """The toy has steps for RSPNet, to which these values do not belong."""
    part = "pretext.training.schedule"
    words = [f"schedule@{part}=cosine", f"{part}.per=step", f"{part}.final_factor=0.5,0.25", "pretext=rspnet"]
    found = [cfg.pretext.training.schedule for cfg in configs(*words)]
    assert [(one.per, one.final_factor) for one in found] == [("step", 0.5), ("step", 0.25)]
