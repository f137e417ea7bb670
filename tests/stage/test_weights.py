"""Weights that stages start from, and files that cannot be read."""

import pytest
import torch

from conftest import SMALL, composed
from vssl.backbone.tiny import Tiny
from vssl.errors import OptionError, VsslError
from vssl.pipeline import plan
from vssl.stage.store import StageStore
from vssl.stage.weights import (
    last_trained,
    load_backbone,
    read_arrays,
    start_in_words,
    starting_weights,
    write_arrays,
)


def test_a_stage_starts_from_the_last_one_that_trained(tmp_path):
    pretext, gallery, queries, test = plan(composed("auxiliary=none", "protocol=knn"))
    store = StageStore(tmp_path)
    assert last_trained(pretext) is starting_weights(pretext, store) is None
    assert start_in_words(pretext) == "random"
    for spec in (gallery, queries, test):
        assert last_trained(spec) == pretext
        assert starting_weights(spec, store) == store.folder(pretext) / "weights.pt"
        assert start_in_words(spec) == str(pretext)


def test_a_file_of_weights_that_has_changed_since_the_launch(tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(b"one")
    finetune, _ = plan(composed(*SMALL, f"init.weights={file}"))
    store = StageStore(tmp_path)
    assert starting_weights(finetune, store) == file
    assert start_in_words(finetune) == "file"
    file.write_bytes(b"other")
    with pytest.raises(
        OptionError, match=r"^init\.weights=.*weights\.pt: has changed since the launch; start"
    ):
        starting_weights(finetune, store)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("of_stage", [True, False])
@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"root:x:0:0:root:/root:/bin/bash\n" * 9, None])
def test_weights_that_cannot_be_read_say_what_to_do(content, of_stage, name, tmp_path):
    """What is left of them after a crash of the disk; and a file of someone else."""
    if of_stage:
        (tmp_path / "recipe.yaml").write_text("")
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    remedy = f"delete {tmp_path} and run again" if of_stage else "fetch it again"
    with pytest.raises(VsslError, match=f"{name}: .*; {remedy}$"):
        load_backbone(Tiny([4, 4]), file)


def test_what_does_not_fit_is_said_shortly(tmp_path):
    torch.save(Tiny([4] * 40).state_dict(), tmp_path / "w.pt")
    with pytest.raises(VsslError, match=r"not weights of Tiny: .*Unexpected") as failure:
        load_backbone(Tiny([4, 4]), tmp_path / "w.pt")
    assert len(str(failure.value)) < 600
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(VsslError, match=r"not weights of Tiny: .*dict"):
        load_backbone(Tiny([4, 4]), tmp_path / "w.pt")


def test_arrays_come_back_and_those_that_are_gone_say_what_to_do(tmp_path):
    write_arrays(tmp_path / "a.npz", {"labels_V": torch.tensor([1, 2]), "names": ["a", "b"]})
    found = read_arrays(tmp_path / "a.npz")
    assert {name: values.tolist() for name, values in found.items()} == {
        "labels_V": [1, 2],
        "names": ["a", "b"],
    }
    with pytest.raises(VsslError, match=r"b\.npz: no such file; delete the result\.json beside it to run"):
        read_arrays(tmp_path / "b.npz")
