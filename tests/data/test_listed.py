"""Real videos by their index: which, in which order, through which decoder."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from conftest import planted_index
from fake_videos import numbers, write
from vssl.data import index as stored
from vssl.data.index import fingerprint, select
from vssl.data.listed import ListedVideos
from vssl.errors import VsslError
from vssl.video import Video


@pytest.fixture
def index():
    return planted_index(4, names=["a.mp4", "b.avi", "c.mp4", "d.mp4"])


def source_of(index, folder, **changes):
    stored.write(index, folder / "index.npz")
    chosen = {"subset": "train", "split": 1, "validation": 0.0, "group": None, **changes}
    rows = select(index, **chosen)
    print_ = fingerprint(index, rows)
    return ListedVideos(
        "mine", str(folder), str(folder / "index.npz"), num_videos=len(rows), fingerprint=print_, **chosen
    )


def test_videos_are_those_of_the_subset_in_order(index, tmp_path):
    index.subsets[0] = [1, 2, 1, 1]
    index.label[3] = -1
    index.verdict[0] = b"truncated"
    source = source_of(index, tmp_path)
    assert list(source.videos) == [Video("c.mp4", 300, 0), Video("d.mp4", 300, None)]
    assert list(source.videos[1:]) == [Video("d.mp4", 300, None)]
    assert [video.name for video in source_of(index, tmp_path, subset="test").videos] == ["b.avi"]


def test_every_file_is_read_through_its_own_decoder(index, tmp_path):
    index.decoder[1] = b"pyav"
    write(tmp_path / "a.mp4", 100)
    write(tmp_path / "b.avi", 100, codec="mpeg4", options={"bf": "2"})  # decord misreads these
    source = source_of(index, tmp_path)
    wanted = np.array([70, 33, 33, 91])
    for video in source.videos[:2]:
        assert numbers(source.read(video, wanted)) == wanted.tolist()
    misled = source_of(planted_index(4, names=["a.mp4", "b.avi", "c.mp4", "d.mp4"]), tmp_path)
    assert numbers(misled.read(misled.videos[1], wanted)) != wanted.tolist()


def test_files_that_changed_since_the_check_are_refused(index, tmp_path):
    """One that is gone is replaced while training, and one of unknown size is taken as it is."""
    for name, content in (("a.mp4", b"1234"), ("b.avi", b"12"), ("d.mp4", b"1")):
        (tmp_path / name).write_bytes(content)
    index.size[:] = [4, 2, 9, 0]
    source = source_of(index, tmp_path)
    source.prepare()
    (tmp_path / "b.avi").write_bytes(b"123")
    with pytest.raises(VsslError, match=r"1 of 4 files have another size .*, b\.avi for one; run mode=check"):
        source.prepare()


def test_it_can_be_sent_to_a_loader_worker(index, tmp_path):
    source = source_of(index, tmp_path)
    source.prepare()
    assert list(pickle.loads(pickle.dumps(source)).videos) == list(source.videos)


def test_an_index_that_changed_since_the_plan_is_refused(index, tmp_path):
    source = source_of(index, tmp_path)
    source.prepare()
    source_of(replace(index, frames=index.frames - 1), tmp_path)
    with pytest.raises(VsslError, match=r"mine was checked anew since this launch began; launch again"):
        source.prepare()
