"""What stage bodies share: checks of labels, weights to start from."""

import pytest
import torch

from conftest import SMALL, composed
from vssl.backbone.tiny import Tiny
from vssl.errors import VsslError
from vssl.pipeline import plan
from vssl.stage.construct import check_labels, load_backbone, starting_weights
from vssl.stage.run import check
from vssl.stage.spec import StageSpec
from vssl.stage.store import StageStore


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([-1, 4, -1], "finetune: 2 of 3 videos have no class"),
        ([0, 5, 1], r"class 5 \(from 0\), but there are 5 classes; say protocol.num_classes=null"),
    ],
)
def test_labels_that_nothing_can_be_learnt_from(labels, message):
    with pytest.raises(VsslError, match=message):
        check_labels(torch.tensor(labels), 5, StageSpec("finetune", {}))
    check_labels(torch.tensor([0, 4, 1]), 5, StageSpec("finetune", {}))


def test_a_file_of_weights_that_has_changed_since_the_launch(tmp_path):
    file = tmp_path / "weights.pt"
    file.write_bytes(b"one")
    finetune, _ = plan(composed(*SMALL, f"init.weights={file}"))
    store = StageStore(tmp_path)
    assert starting_weights(finetune, store) == file
    file.write_bytes(b"other")
    with pytest.raises(VsslError, match=r"init\.weights=.*weights\.pt: has changed since the launch"):
        starting_weights(finetune, store)


@pytest.mark.parametrize("of_stage", [True, False])
@pytest.mark.parametrize("content", [b"", b"x" * 5000, None])
def test_weights_that_cannot_be_read_say_what_to_do(content, of_stage, tmp_path):
    """What is left of them after a crash of the disk; and a file of someone else."""
    if of_stage:
        (tmp_path / "recipe.yaml").write_text("")
    file = tmp_path / "weights.pt"
    if content is not None:
        file.write_bytes(content)
    remedy = f"delete {tmp_path} and run again" if of_stage else "fetch it again"
    with pytest.raises(VsslError, match=f"weights.pt: .*; {remedy}$"):
        load_backbone(Tiny([4, 4]), file)


def test_what_does_not_fit_is_said_shortly(tmp_path):
    torch.save(Tiny([4] * 40).state_dict(), tmp_path / "w.pt")
    with pytest.raises(VsslError, match=r"not weights of Tiny: .*Unexpected") as failure:
        load_backbone(Tiny([4, 4]), tmp_path / "w.pt")
    assert len(str(failure.value)) < 600
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(VsslError, match=r"not weights of Tiny: .*dict"):
        load_backbone(Tiny([4, 4]), tmp_path / "w.pt")


def test_a_way_to_average_is_known_before_anything_trains():
    [*_, test] = plan(composed(*SMALL, "protocol.test.average=softmx"))
    with pytest.raises(VsslError, match=r"test\.average=softmx: no such way; did you mean 'softmax'\?"):
        check(test)
