"""What stage bodies share: checks of labels, weights to start from."""

import pytest
import torch

from conftest import SMALL, composed
from vssl.errors import VsslError
from vssl.pipeline import plan
from vssl.stage.parts import check_labels, starting_weights
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
