"""The small network."""

import pytest
import torch

from vssl.backbone.tiny import Tiny
from vssl.errors import VsslError


def test_features_are_the_mean_of_a_map_halved_by_each_convolution_but_for_time_by_the_first():
    backbone = Tiny([4, 6, 8, 5]).eval()
    clips_BCTHW = torch.rand(2, 3, 16, 32, 32) * 255
    map_BDTHW = backbone.feature_map(clips_BCTHW)
    assert map_BDTHW.shape == (2, 5, 2, 2, 2)
    assert backbone.feature_dim == 5
    torch.testing.assert_close(backbone(clips_BCTHW), map_BDTHW.flatten(2).mean(dim=2))


def test_with_four_convolutions_the_last_time_step_sees_all_frames():
    torch.manual_seed(0)
    backbone = Tiny([4, 4, 4, 4]).eval()
    clips_BCTHW = (torch.rand(1, 3, 16, 32, 32) * 255).requires_grad_()
    backbone.feature_map(clips_BCTHW)[0, :, -1, 0, 0].sum().backward()
    seen_T = clips_BCTHW.grad.abs().sum(dim=(0, 1, 3, 4)) > 0
    assert seen_T.all()


def test_what_stands_still_is_not_seen():
    torch.manual_seed(0)
    backbone = Tiny([4, 4]).eval()
    moving_BCTHW, picture_BCTHW = torch.rand(2, 3, 8, 16, 16), torch.rand(2, 3, 1, 16, 16)
    torch.testing.assert_close(backbone(moving_BCTHW + picture_BCTHW), backbone(moving_BCTHW))
    assert (backbone(moving_BCTHW) - backbone(moving_BCTHW.flip(2))).abs().max() > 1e-4


def test_the_scale_of_the_pixels_hardly_matters():
    torch.manual_seed(0)
    backbone = Tiny([8, 16]).double()
    clips_BCTHW = torch.rand(4, 3, 16, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(backbone(clips_BCTHW * 255), backbone(clips_BCTHW), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("widths", [[], [0, 8]])
def test_no_convolution_or_one_without_channels_is_no_network(widths):
    with pytest.raises(VsslError, match="at least one convolution"):
        Tiny(widths)
