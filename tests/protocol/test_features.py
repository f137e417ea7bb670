"""Features of a video: the means and maxima that VCOP and RSPNet publish."""

import pytest
import torch

from vssl.backbone.c3d import C3D
from vssl.backbone.r2plus1d import R2Plus1D
from vssl.backbone.resnet3d import R3D
from vssl.backbone.tiny import Tiny
from vssl.errors import VsslError
from vssl.protocol.features import VideoFeatures
from vssl.protocol.finetune import UniformClips
from vssl.types import Backbone

SAMPLER = UniformClips(16, 10, "loop")


def tiny():
    torch.manual_seed(0)
    return Tiny([4, 6]).eval()


def clips(size):
    return torch.rand(2, 3, 3, 16, size, size, generator=torch.Generator().manual_seed(1))


def test_pooled_features_are_the_mean_over_clips_time_and_space():
    backbone, clips_BKCTHW = tiny(), clips(12)
    features_BD = VideoFeatures(SAMPLER, "pooled").extract(backbone, clips_BKCTHW)
    for video, expected_D in zip(clips_BKCTHW, features_BD, strict=True):
        each = [backbone.layers(_changes(clip))[0].mean(dim=(1, 2, 3)) for clip in video]
        torch.testing.assert_close(sum(each) / 3, expected_D)


def test_conv5_max_is_the_maximum_over_squares_of_four():
    backbone, clips_BKCTHW = tiny(), clips(12)
    features_BD = VideoFeatures(SAMPLER, "conv5_max").extract(backbone, clips_BKCTHW)
    map_KDTHW = torch.cat([backbone.layers(_changes(clip)) for clip in clips_BKCTHW[1]])
    assert map_KDTHW.shape == (3, 6, 8, 3, 3)  # the third row and column fit into no window
    expected_D = map_KDTHW[..., :2, :2].amax(dim=(3, 4)).flatten(1).mean(dim=0)
    torch.testing.assert_close(features_BD[1], expected_D)


@pytest.mark.parametrize("make", [C3D, lambda: R3D([1, 1, 1, 1]), lambda: R2Plus1D([1, 1, 1, 1])])
def test_sizes_are_those_published(make):
    with torch.device("meta"):
        backbone, clips_BKCTHW = make().eval(), torch.empty(1, 2, 3, 16, 112, 112)
        assert VideoFeatures(SAMPLER, "conv5_max").extract(backbone, clips_BKCTHW).shape == (1, 9216)
        assert VideoFeatures(SAMPLER, "pooled").extract(backbone, clips_BKCTHW).shape == (1, 512)


def test_a_map_that_is_too_small_is_one_line():
    with pytest.raises(VsslError, match=r"the last map of Tiny is 8x1x1, its windows 1x2x2; give it larger"):
        VideoFeatures(SAMPLER, "conv5_max").check_backbone(tiny().to("meta"), 4)


def test_a_backbone_without_a_map_still_has_pooled_features():
    class Mean(Backbone):
        feature_dim = 3

        def forward(self, clips_BCTHW):
            return clips_BCTHW.mean(dim=(2, 3, 4))

    assert VideoFeatures(SAMPLER, "pooled").extract(Mean(), clips(4)).shape == (2, 3)
    with pytest.raises(VsslError, match=r"Mean has no feature map; choose features\.feature=pooled"):
        VideoFeatures(SAMPLER, "conv5_max").extract(Mean(), clips(4))


def _changes(clip_CTHW):
    """What Tiny sees: differences between frames."""
    return torch.diff(clip_CTHW[None], dim=2, prepend=clip_CTHW[None, :, :1])
