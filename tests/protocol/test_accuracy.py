"""Accuracy functions on planted scores, worked by hand."""

import math

import pytest
import torch

from vssl.errors import OptionError
from vssl.protocol.accuracy import (
    clip_metrics,
    mean_class_accuracy,
    most_frequent,
    topk_accuracy,
    video_metrics,
)
from vssl.protocol.finetune import ClipTest, UniformClips
from vssl.stage.build import build

# Two videos of class 0, three clips each, three classes. In the first one two clips are mildly wrong, one is
# very right; in the second one clip is right, two are surely wrong.
LOGITS_VKN = torch.tensor(
    [
        [[0.0, 1.0, -9.0], [0.0, 1.0, -9.0], [9.0, 0.0, -9.0]],
        [[1.0, 0.0, -9.0], [0.0, 9.0, -9.0], [0.0, 9.0, -9.0]],
    ]
)
LABELS_V = torch.tensor([0, 0])


def clip_test(average):
    return ClipTest(UniformClips(16, 3, "loop"), average)


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_clips_and_videos_are_judged_apart(average):
    test = clip_test(average)
    found, arrays = test.evaluate(LOGITS_VKN, LABELS_V)
    assert found["clip_top1"] == pytest.approx(2 / 6)
    assert found["video_top1"] == 1 / 2
    assert found["clip_top5"] == found["video_top5"] == found["chance"] == 1.0
    assert found["mean_class_top1"] == 1 / 2
    assert found == {**clip_metrics(LOGITS_VKN, LABELS_V), **video_metrics(arrays["scores_VN"], LABELS_V)}
    assert torch.equal(arrays["logits_VKN"], LOGITS_VKN)
    assert {metric.name for metric in test.metrics} <= set(found)
    assert [metric.name for metric in test.metrics if metric.headline] == ["video_top1"]
    assert test.facts() == {"average": average}


def test_softmax_and_logits_average_differently():
    logits_VKN = torch.tensor([[[2.0, 0.0], [2.0, 0.0], [0.0, 9.0]]])
    softmax_VN, mean_VN = (
        clip_test(average).evaluate(logits_VKN, torch.tensor([0])).arrays["scores_VN"]
        for average in ("softmax", "logits")
    )
    p = math.exp(2) / (1 + math.exp(2))
    q = 1 / (1 + math.exp(9))
    torch.testing.assert_close(softmax_VN, torch.tensor([[(2 * p + q) / 3, 1 - (2 * p + q) / 3]]))
    torch.testing.assert_close(mean_VN, torch.tensor([[4 / 3, 3.0]]))
    assert softmax_VN.argmax() == 0
    assert mean_VN.argmax() == 1


def test_another_average_is_refused_where_a_test_is_built():
    node = {"_target_": "vssl.protocol.finetune.ClipTest", "sampler": UniformClips(16, 3, "loop")}
    with pytest.raises(OptionError, match=r"^test\.average=mean: no such value; valid: logits, softmax$"):
        build({**node, "average": "mean"}, "test")
    assert build({**node, "average": "logits"}, "test") == clip_test("logits")


def test_rare_classes_count_as_much_as_others():
    labels_V = torch.tensor([0, 0, 0, 0, 2, 2])  # none of class 1
    scores_VN = torch.eye(3)[torch.tensor([0, 0, 0, 1, 2, 0])]
    assert topk_accuracy(scores_VN, labels_V, 1) == pytest.approx(4 / 6)
    assert mean_class_accuracy(scores_VN, labels_V) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert most_frequent(labels_V) == pytest.approx(4 / 6)


def test_top_k():
    scores_VN = torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]]).repeat(7, 1)
    hits = [topk_accuracy(scores_VN, torch.arange(7), k) for k in (1, 5, 7, 100)]
    assert hits == pytest.approx([1 / 7, 5 / 7, 1, 1])


def test_a_tie_is_no_hit_and_neither_is_a_nan():
    assert topk_accuracy(torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([0]), 1) == 0
    assert topk_accuracy(torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([0]), 2) == 1
    assert topk_accuracy(torch.full((1, 9), math.nan), torch.tensor([0]), 5) == 0
