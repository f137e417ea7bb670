"""A few videos of each class, and whole groups that are held out."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from omegaconf import OmegaConf

from conftest import composed, planted_index
from vssl.data.index import index_path, rows_of_part, select, write
from vssl.data.part import Part, fingerprint_of, group_names
from vssl.errors import OptionError, VsslError
from vssl.pipeline import plan
from vssl.stage.construct import Stage

ALL = Part(per_class=None, held_out=0.0, side="train", seed=0)

# Four subjects, each of whom does each of three things four times, as in UTD-MHAD; one try of s1 is missing.
TRIES = [(a, s, t) for a in range(3) for s in (1, 3, 5, 7) for t in range(4)][1:]
NAMES = [f"a{a}_s{s}_t{t}.mp4" for a, s, t in TRIES]
LABELS = [a for a, _, _ in TRIES]
SUBJECTS = group_names(NAMES, r"_(?P<group>s\d)_")


def chosen(part, names=NAMES, labels=LABELS, groups=SUBJECTS):
    return [(labels[row], groups[row], names[row]) for row in part.rows(names, labels, groups)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("count", "groups"), [(1, 1), (2, 2), (3, 3), (4, 4), (6, 4)])
def test_few_videos_of_each_class_are_of_as_many_groups_as_can_be_the_same_ones_in_all_classes(
    seed, count, groups
):
    few = chosen(replace(ALL, per_class=count, seed=seed))
    assert Counter(label for label, _, _ in few) == dict.fromkeys(range(3), count)
    of_class = {label: {group for one, group, _ in few if one == label} for label in range(3)}
    assert of_class[0] == of_class[1] == of_class[2]
    assert len(of_class[0]) == groups


def test_a_class_that_has_fewer_gives_all_and_videos_without_a_class_give_none():
    names, labels = [f"{n}.mp4" for n in range(9)], [0, 0, 0, 0, 0, 1, 1, -1, -1]
    few = chosen(replace(ALL, per_class=3), names, labels, names)
    assert Counter(label for label, _, _ in few) == {0: 3, 1: 2}


def test_the_seed_draws_and_other_videos_do_not_matter():
    draws = {str(chosen(replace(ALL, per_class=2, seed=seed))) for seed in range(8)}
    assert len(draws) > 4
    few = replace(ALL, per_class=2)
    more = chosen(few, [*NAMES, "new_s1.mp4"], [*LABELS, 3], [*SUBJECTS, "s1"])
    assert more == [*chosen(few), (3, "s1", "new_s1.mp4")]


@pytest.mark.parametrize("seed", range(5))
def test_whole_groups_are_held_out_as_near_to_the_share_as_they_allow(seed):
    for share, subjects in ((0.01, 1), (0.25, 1), (0.4, 2), (0.5, 2), (0.75, 3), (0.99, 3)):
        part = replace(ALL, held_out=share, seed=seed)
        left, held = chosen(part), chosen(replace(part, side="val"))
        assert sorted(left + held) == sorted(chosen(ALL))
        assert not {group for _, group, _ in left} & {group for _, group, _ in held}
        assert len({group for _, group, _ in held}) == subjects


def test_of_few_videos_one_subject_is_held_out():
    few = replace(ALL, per_class=4, held_out=0.25)
    held = chosen(replace(few, side="val"))
    assert Counter(label for label, _, _ in held) == {0: 1, 1: 1, 2: 1}
    assert len({group for _, group, _ in held}) == 1
    assert sorted(held + chosen(few)) == sorted(chosen(replace(ALL, per_class=4)))


def test_of_groups_of_one_video_as_many_of_each_class_are_held_out():
    names = [f"{n:05}.mp4" for n in range(160)]
    labels = [n % 8 for n in range(160)]
    held = chosen(replace(ALL, held_out=0.25, side="val"), names, labels, names)
    assert Counter(label for label, _, _ in held) == dict.fromkeys(range(8), 5)


def test_one_group_cannot_be_parted():
    with pytest.raises(
        OptionError, match=r"held_out=0\.25: 1 group of 4 training videos cannot be cut in two"
    ):
        replace(ALL, held_out=0.25).rows(["a", "b", "c", "d"], [0, 1, 0, 1], ["one"] * 4)


def source_in(folder, *overrides):
    """The training videos of a data set whose index is written here: half of it is for the test."""
    where = [f"downstream.root={folder}", f"outputs={folder}", r"downstream.train.group='_(?P<group>s\d)_'"]
    cfg = composed("downstream=folder", *where, "auxiliary=none", "pretext=none", *overrides)
    node = OmegaConf.to_container(cfg.downstream.train, resolve=True)
    index = planted_index(2 * len(NAMES), [*NAMES, *(f"test/{name}" for name in NAMES)])
    index.label[:] = [*LABELS, *LABELS]
    index.classes.append("three")
    index.subsets[:, len(NAMES) :] = 2
    write(index, index_path(node))
    return cfg, node, index


def test_a_choice_never_sees_a_test_video(tmp_path):
    """All that is trained on and tested on for a choice lies among the training videos, groups whole."""
    choose = "protocol.choose={training.optimizer.lr:[0.1,0.2]}"
    cfg, node, index = source_in(tmp_path, choose, "downstream.train.per_class=4")
    chain = plan(cfg)
    names = [{video.name for video in Stage(spec).source.videos} for spec in chain]
    for trained, tested in (names[:2], names[2:4]):
        assert not trained & tested
        assert trained | tested == names[4]
        assert not any(name.startswith("test/") for name in trained | tested)
        subjects = [{name.split("_")[1] for name in some} for some in (trained, tested)]
        assert not set.intersection(*subjects)
    assert len(names[4]) == 12
    assert names[5] == {f"test/{name}" for name in NAMES}
    # What the plan counts by the index alone is what the stages find.
    part = chain[4].recipe.data["part"]
    rows = rows_of_part(node, Part(4, 0.0, "train", 0))
    assert (part["num_videos"], part["fingerprint"]) == (12, fingerprint_of(rows))
    everything = select(index, "train", 1, 0.0, None)
    assert {index.name(row) for row in everything[rows]} == names[4]


def test_other_names_that_part_the_videos_otherwise_are_noticed(tmp_path):
    cfg, node, index = source_in(tmp_path, "downstream.train.per_class=4")
    [finetune, _] = plan(cfg)
    assert len(Stage(finetune).source.videos) == 12
    again = planted_index(2 * len(NAMES), [f"x{n:03}_s{n % 5}_.mp4" for n in range(2 * len(NAMES))])
    again.label[:], again.subsets[:] = index.label, index.subsets
    write(replace(again, digest=index.digest, classes=index.classes), index_path(node))
    with pytest.raises(VsslError, match="other names than when this launch began"):
        _ = Stage(finetune).source


def test_a_part_of_synthetic_videos_reads_the_same_frames(data):
    [few, _] = plan(composed(*data, "auxiliary=none", "pretext=none", "downstream.train.per_class=1"))
    source = Stage(few).source
    source.prepare()
    assert [video.label for video in sorted(source.videos, key=lambda video: video.label)] == list(range(8))
    video = source.videos[3]
    frames = np.array([0, 5])
    assert np.array_equal(source.read(video, frames), source.source.read(video, frames))


def test_a_guess_for_videos_that_are_not_checked():
    assert replace(ALL, per_class=4).guess(9537, 101) == 404
    assert replace(ALL, held_out=0.25, side="val").guess(100, None) == 25
    assert replace(ALL, per_class=4, held_out=0.25).guess(9537, 101) == 303
