"""mode=features: any data set through any trained backbone."""

import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from conftest import SMALL, composed
from vssl.commands.features import execute
from vssl.errors import VsslError


def test_features_of_a_data_set_are_those_of_the_gallery(finished, data, capsys):
    store, chains = finished
    gallery = chains["knn"][-3]
    same_videos = [
        f"source.{name}={gallery.recipe.data[name]}" for name in ("num_videos", "appearance", "seed")
    ]
    # What the config says of another backbone and pretext is of no account: the stage decides.
    other = ["backbone=r3d_10", "pretext=rspnet", "auxiliary=none", "features.sampler.num_clips=2"]
    small = [line for line in SMALL if line.startswith("runtime")]
    place = [
        f"outputs={store.root.parent}",
        f"stage='{gallery.key[:8]}'",
        f"source.root={data[0].split('=')[1]}",
    ]
    execute(composed(*small, *other, *same_videos, *place))
    [file] = (store.root.parent / "features").glob("*.npz")
    assert f"16 videos x 64 features: {file}" in capsys.readouterr().out
    with np.load(file) as written, np.load(store.folder(gallery) / "features.npz") as expected:
        for name in ("features_VD", "labels_V", "names", "class_names"):
            assert np.array_equal(written[name], expected[name]), name
        protocol = json.loads(str(written["protocol"]))
    pretext = chains["knn"][0]
    assert protocol["weights"] == f"pretext/{pretext.key}"
    assert (protocol["backbone"], protocol["clips_per_video"], protocol["videos"]) == ("Tiny", 2, 16)


def test_no_stage_is_named(tmp_path):
    with pytest.raises(VsslError, match=r"^stage=null: needs the beginning of a key; stage=KEY"):
        execute(OmegaConf.create({"stage": None, "outputs": str(tmp_path)}))
