"""Classification: clips worked by hand, the loss against its formula."""

import numpy as np
import pytest
import torch

from vssl.backbone.tiny import Tiny
from vssl.errors import VsslError
from vssl.protocol.finetune import Classification, RandomClip, UniformClips


def test_natural_pace_starts_anywhere_a_clip_fits():
    rng = np.random.default_rng(0)
    clips = [RandomClip(16, "loop").plan(20, rng).frames_KT for _ in range(300)]
    assert {tuple(clip[0]) for clip in clips} == {tuple(range(s, s + 16)) for s in range(5)}
    assert {clip.shape for clip in clips} == {(1, 16)}


@pytest.mark.parametrize(
    ("num_frames", "out_of_bounds", "expected"),
    [
        (4, "loop", [0, 1, 2, 3, 0, 1]),
        (4, "repeat_last", [0, 1, 2, 3, 3, 3]),
        (1, "loop", [0] * 6),
        (6, "loop", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_short_videos(num_frames, out_of_bounds, expected):
    rng = np.random.default_rng(0)
    assert RandomClip(6, out_of_bounds).plan(num_frames, rng).frames_KT.tolist() == [expected]
    assert UniformClips(6, 2, out_of_bounds).plan(num_frames, rng).frames_KT.tolist() == [expected] * 2


@pytest.mark.parametrize(
    ("num_frames", "num_clips", "starts"),
    [
        (100, 10, [0, 9, 18, 28, 37, 46, 56, 65, 74, 84]),  # steps of 84 / 9 = 9.33
        (106, 10, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]),
        (18, 10, [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]),
        (100, 3, [0, 42, 84]),
        (100, 1, [0]),
    ],
)
def test_uniform_clips_reach_from_the_first_frame_to_the_last(num_frames, num_clips, starts):
    frames_KT = UniformClips(16, num_clips, "loop").plan(num_frames, np.random.default_rng(0)).frames_KT
    assert frames_KT.tolist() == [list(range(start, start + 16)) for start in starts]


def test_starts_are_those_of_the_released_vcop_test():
    """floor(linspace(T/2, n - T/2, 10)) - T/2."""
    for num_frames in range(16, 400):
        frames_KT = UniformClips(16, 10, "loop").plan(num_frames, np.random.default_rng(0)).frames_KT
        centres = np.floor(np.linspace(8, num_frames - 8, 10)).astype(int)
        assert frames_KT[:, 0].tolist() == (centres - 8).tolist()


def classifier(num_classes=5):
    torch.manual_seed(0)
    task = Classification(RandomClip(16, "loop"), num_classes)
    return task.objective(Tiny([4, 6])).double()


def test_loss_gradient_and_accuracy():
    net = classifier()
    clips, labels = torch.rand(4, 1, 3, 16, 8, 8).double(), torch.tensor([0, 4, 2, 2])
    loss, metrics = net({"clips": clips, "label": labels})
    scores_BN = net.backbone(clips[:, 0]) @ net.head.weight.T + net.head.bias
    probabilities_BN = scores_BN.exp() / scores_BN.exp().sum(dim=1, keepdim=True)
    expected = -probabilities_BN[torch.arange(4), labels].log().sum() / 4
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    ours = torch.autograd.grad(loss, list(net.parameters()))
    theirs = torch.autograd.grad(expected, list(net.parameters()))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    assert metrics["top1"] == pytest.approx(float((scores_BN.argmax(dim=1) == labels).sum()) / 4)


def test_logits_of_several_clips_are_those_of_each():
    net = classifier().eval()
    clips = torch.rand(2, 3, 3, 16, 8, 8).double()
    logits_BKN = net.logits(clips)
    assert logits_BKN.shape == (2, 3, 5)
    for video in range(2):
        for clip in range(3):
            alone = net.head(net.backbone(clips[video, clip][None]))[0]
            torch.testing.assert_close(logits_BKN[video, clip], alone)


def test_sizes_that_make_no_sense():
    with pytest.raises(VsslError, match="num_clips=0"):
        UniformClips(16, 0, "loop")
    with pytest.raises(VsslError, match="num_classes=0"):
        Classification(RandomClip(16, "loop"), 0)
