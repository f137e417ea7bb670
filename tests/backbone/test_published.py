"""The published networks: sizes, shapes, initialisation, and what they compute."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torchvision.models.video.resnet import BasicBlock, BasicStem, Conv3DSimple, VideoResNet

from vssl.backbone.hara import ResNet3D
from vssl.backbone.i3d import I3D, SameMaxPool3d, pad_same
from vssl.backbone.r2plus1d import FactoredConv, R2Plus1D, middle_width
from vssl.backbone.resnet3d import R3D
from vssl.backbone.s3d_g import S3DG, Gate
from vssl.backbone.slow_r50 import SlowR50
from vssl.backbone.torchvision_nets import S3D, VideoResNet18
from vssl.errors import VsslError
from vssl.stage.build import build
from vssl.types import Backbone

CONF = Path(__file__).parents[2] / "conf" / "backbone"

# name: parameters, feature map of one clip of 16x112x112
PUBLISHED = {
    "r3d_10": (14_361_792, (512, 2, 7, 7)),
    "r2plus1d_10": (14_365_303, (512, 2, 7, 7)),
    "resnet3d_18": (33_203_904, (512, 1, 4, 4)),
    "c3d": (27_661_440, (512, 2, 7, 7)),
    "s3d_g": (8_675_744, (1024, 2, 3, 3)),
    "r3d_18": (33_166_272, (512, 2, 7, 7)),
    "mc3_18": (11_490_240, (512, 16, 7, 7)),
    "r2plus1d_18": (31_300_125, (512, 2, 7, 7)),
    "s3d": (7_910_048, (1024, 2, 3, 3)),
    "i3d": (12_287_264, (1024, 2, 4, 4)),
    "slow_r50": (31_634_496, (2048, 16, 4, 4)),  # 32.45 M with the 400 classes of its supervised twin
}


def node_of(name):
    """The yaml of a backbone and its `input`, apart."""
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    return node, node.pop("input")


def on_meta(name):
    """The backbone of a yaml without memory behind its weights."""
    with torch.device("meta"):
        return build(node_of(name)[0], "backbone")


def parameters_of(net):
    return sum(p.numel() for p in net.parameters())


def shapes_of(net, modules, clip=(3, 16, 112, 112)):
    """Output shapes of some modules for one clip, without the batch dimension."""
    shapes = []
    for module in modules:
        module.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape[1:])))
    net(torch.empty(1, *clip, device="meta"))
    return shapes


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_shapes(name):
    parameters, feature_map = PUBLISHED[name]
    net = on_meta(name)
    assert isinstance(net, Backbone)
    assert parameters_of(net) == parameters

    clips = torch.empty(2, 3, 16, 112, 112, device="meta")
    assert net.feature_map(clips).shape == (2, *feature_map)
    assert net(clips).shape == (2, net.feature_dim) == (2, feature_map[0])


@pytest.mark.parametrize("name", PUBLISHED)
def test_input_of_the_yaml_fits(name):
    size = node_of(name)[1]
    net = on_meta(name)
    clips = torch.empty(1, 3, size["num_frames"], size["crop"], size["crop"], device="meta")
    assert size["crop"] <= min(size["resize"])
    assert net(clips).shape == (1, net.feature_dim)


@pytest.mark.parametrize("name", ["r3d_10", "r2plus1d_10"])
def test_stages_of_vcop_nets(name):
    net = on_meta(name)
    assert shapes_of(net, [net.stem, *net.stages]) == [
        (64, 16, 56, 56),
        (64, 16, 56, 56),
        (128, 8, 28, 28),
        (256, 4, 14, 14),
        (512, 2, 7, 7),
    ]


def test_stages_of_hara_resnet():
    net = on_meta("resnet3d_18")
    assert shapes_of(net, [net.stem, *net.stages]) == [
        (64, 8, 28, 28),
        (64, 8, 28, 28),
        (128, 4, 14, 14),
        (256, 2, 7, 7),
        (512, 1, 4, 4),
    ]


def test_stages_of_s3d_g():
    net = on_meta("s3d_g")
    names = ["stem", "conv2c", "mixed_3c", "mixed_4f", "mixed_5c"]
    layers = [net.layers.get_submodule(name) for name in names]
    assert shapes_of(net, layers, clip=(3, 64, 224, 224)) == [
        (64, 32, 112, 112),
        (192, 32, 56, 56),
        (480, 32, 28, 28),
        (832, 16, 14, 14),
        (1024, 8, 7, 7),
    ]


@pytest.mark.parametrize(("net", "parameters"), [(R3D, 33_166_272), (R2Plus1D, 33_178_423)])
def test_two_blocks_per_stage(net, parameters):
    with torch.device("meta"):
        assert parameters_of(net([2, 2, 2, 2])) == parameters


def test_blocks_are_checked():
    with pytest.raises(VsslError, match="four numbers"):
        R3D([1, 1, 1])
    with pytest.raises(VsslError, match="four numbers"):
        R2Plus1D([1, 1, 0, 1])


def test_middle_widths():
    net = on_meta("r2plus1d_10")
    widths = {
        name: conv.spatial.out_channels
        for name, conv in net.named_modules()
        if isinstance(conv, FactoredConv)
    }
    assert widths == {
        "stem.conv": 83,
        "stages.0.0.conv1": 144,
        "stages.0.0.conv2": 144,
        "stages.1.0.conv1": 230,
        "stages.1.0.conv2": 288,
        "stages.1.0.shortcut.conv": 42,
        "stages.2.0.conv1": 460,
        "stages.2.0.conv2": 576,
        "stages.2.0.shortcut.conv": 85,
        "stages.3.0.conv1": 921,
        "stages.3.0.conv2": 1152,
        "stages.3.0.shortcut.conv": 170,
    }


@pytest.mark.parametrize(("channels_in", "channels_out"), [(3, 64), (64, 128), (100, 7)])
def test_middle_width_is_the_largest_that_saves(channels_in, channels_out):
    def weights(middle):
        return 3 * 3 * channels_in * middle + 3 * middle * channels_out

    middle = middle_width(channels_in, channels_out, (3, 3, 3))
    assert weights(middle) <= 27 * channels_in * channels_out < weights(middle + 1)


def test_strides_are_factored():
    conv = FactoredConv(3, 4, (3, 7, 7), (2, 3, 5))
    assert (conv.spatial.kernel_size, conv.spatial.stride) == ((1, 7, 7), (1, 3, 5))
    assert (conv.temporal.kernel_size, conv.temporal.stride) == ((3, 1, 1), (2, 1, 1))


def test_r3d_computes_what_torchvision_does():
    torch.manual_seed(0)
    ours = R3D([1, 1, 1, 1])
    theirs = VideoResNet(BasicBlock, [Conv3DSimple] * 4, [1, 1, 1, 1], BasicStem)
    theirs.fc = nn.Identity()
    values = ours.state_dict().values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    clips = torch.randn(2, 3, 8, 32, 32)
    for mode in (True, False):
        difference = ours.train(mode)(clips) - theirs.train(mode)(clips)
        assert difference.abs().max() == 0.0


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    net = R2Plus1D([1, 1, 1, 1])
    features = net(torch.randn(2, 3, 8, 32, 32))
    features.square().sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("net", "weight", "std"),
    [
        (lambda: R3D([1, 1, 1, 1]), "stem.conv.weight", 0.0275),  # PyTorch's: 1 / sqrt(3 fan_in)
        (lambda: ResNet3D([1, 1, 1, 1]), "stem.conv.weight", 0.0096),  # sqrt(2 / fan_out)
        (lambda: VideoResNet18("r3d_18", 2, 2, 1e-5), "stem.0.weight", 0.0145),  # sqrt(2 / fan_out)
        (SlowR50, "stem.conv.weight", 0.0253),  # sqrt(2 / fan_out)
    ],
    ids=["r3d", "hara", "torchvision", "slow_r50"],
)
def test_initialisation(net, weight, std):
    assert net().state_dict()[weight].std().item() == pytest.approx(std, rel=0.03)


def test_c3d_has_biases_and_no_residual_net_has():
    biased = {name: _biased(on_meta(name)) for name in ("c3d", "r3d_10", "r2plus1d_10", "resnet3d_18")}
    assert biased == {"c3d": 8, "r3d_10": 0, "r2plus1d_10": 0, "resnet3d_18": 0}


def _biased(net):
    return sum(m.bias is not None for m in net.modules() if isinstance(m, nn.Conv3d))


def test_gate():
    torch.manual_seed(0)
    gate, x = Gate(3), torch.randn(2, 3, 2, 4, 4)
    means = x.flatten(2).mean(dim=2)
    scale = torch.sigmoid(means @ gate.linear.weight.flatten(1).T + gate.linear.bias)
    torch.testing.assert_close(gate(x), x * scale[:, :, None, None, None])


def test_gates_stand_in_separable_convolutions_only():
    gates = [name for name, module in on_meta("s3d_g").named_modules() if isinstance(module, Gate)]
    assert len(gates) == 2 + 9 * 2
    assert {name.split(".")[-2] for name in gates if "mixed" in name} == {"1"}


@pytest.mark.parametrize(("net", "count"), [(S3D, 77), (S3DG, 77), (I3D, 57)])
def test_bn_momentum_and_eps(net, count):
    with torch.device("meta"):
        norms = [m for m in net(bn_momentum=0.25).modules() if isinstance(m, nn.BatchNorm3d)]
    assert len(norms) == count
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.25, 1e-3)}


def test_stages_of_i3d():
    net = on_meta("i3d")
    names = ["stem", "pool1", "conv2c", "mixed_3c", "mixed_4f", "mixed_5c"]
    layers = [net.layers.get_submodule(name) for name in names]
    assert shapes_of(net, layers, clip=(3, 64, 224, 224)) == [
        (64, 32, 112, 112),
        (64, 32, 56, 56),
        (192, 32, 56, 56),
        (480, 32, 28, 28),
        (832, 16, 14, 14),
        (1024, 8, 7, 7),
    ]


def test_same_padding_puts_the_odd_zero_behind():
    """A kernel of 3 and stride 2 sees 4 windows of 7: 3 x 2 + 3 - 7 = 2 zeros, one on each side; of 8 also 4,
    with 1 zero, behind."""
    x = torch.ones(1, 1, 7, 8, 4)
    padded = pad_same(x, (3, 3, 3), (2, 2, 1))
    assert padded.shape[2:] == (9, 9, 6)
    assert padded[0, 0, :, 0, 1].tolist() == [0, *[1] * 7, 0]
    assert padded[0, 0, 1, :, 1].tolist() == [*[1] * 8, 0]
    assert padded[0, 0, 1, 0].tolist() == [0, 1, 1, 1, 1, 0]


def test_same_pools_see_windows_that_begin_with_the_first_value():
    x = torch.arange(6.0).reshape(1, 1, 1, 1, 6)
    assert SameMaxPool3d((1, 1, 3), (1, 1, 2))(x).flatten().tolist() == [2, 4, 5]


def test_stages_of_slow_r50():
    net = on_meta("slow_r50")
    assert shapes_of(net, [net.stem, *net.stages], clip=(3, 8, 224, 224)) == [
        (64, 8, 56, 56),
        (256, 8, 56, 56),
        (512, 8, 28, 28),
        (1024, 8, 14, 14),
        (2048, 8, 7, 7),
    ]
    kernels = [[block.conv1.kernel_size[0] for block in stage] for stage in net.stages]
    assert kernels == [[1] * 3, [1] * 4, [3] * 6, [3] * 3]


def changed(name, **options):
    """One of torchvision's nets with other options than its yaml has."""
    with torch.device("meta"):
        return build({**node_of(name)[0], **options}, "backbone")


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18"])
def test_the_last_stage_may_keep_its_size_and_no_weight_changes(name):
    clips = torch.empty(1, 3, 16, 112, 112, device="meta")
    plain = on_meta(name)
    for options, feature_map in (
        ({"last_spatial_stride": 1}, (2, 14, 14)),  # CtP
        ({"last_temporal_stride": 1}, (4, 7, 7)),  # TCLR
    ):
        net = changed(name, **options)
        assert net.feature_map(clips).shape[2:] == feature_map
        shapes = {key: tensor.shape for key, tensor in net.state_dict().items()}
        assert shapes == {key: tensor.shape for key, tensor in plain.state_dict().items()}


def test_without_its_last_stride_in_time_r3d_is_the_net_of_tclr():
    entry = changed("r3d_18", last_temporal_stride=1).layer4[0]
    conv, shortcut = entry.conv1[0], entry.downsample[0]
    assert (conv.stride, conv.padding, conv.dilation) == ((1, 2, 2), (2, 1, 1), (2, 1, 1))
    assert (shortcut.stride, shortcut.padding, shortcut.dilation) == ((1, 2, 2), (0, 0, 0), (1, 1, 1))


def test_with_a_dilation_every_second_step_is_what_it_was_with_the_stride():
    """The dilated convolution sees in every second step what a plain one sees in every second frame."""
    torch.manual_seed(0)
    strided, dilated = (VideoResNet18("r3d_18", 2, time, 1e-5).layer4[0] for time in (2, 1))
    dilated.load_state_dict(strided.state_dict())
    x = torch.randn(1, 256, 4, 6, 6)
    found = dilated.conv1[0](x)
    assert found.shape[2:] == (4, 3, 3)
    expected = torch.nn.functional.conv3d(
        x[:, :, ::2], strided.conv1[0].weight, stride=(1, 2, 2), padding=(1, 1, 1)
    )
    torch.testing.assert_close(found[:, :, ::2], expected)


def test_a_net_that_never_halves_time_has_no_such_stride():
    with pytest.raises(VsslError, match="last_temporal_stride=2: mc3_18 keeps all time steps; say 1"):
        changed("mc3_18", last_temporal_stride=2)


def test_eps_of_torchvision_nets():
    norms = [m for m in changed("r3d_18", bn_eps=1e-3).modules() if isinstance(m, nn.BatchNorm3d)]
    assert {norm.eps for norm in norms} == {1e-3}
    assert len(norms) == 20
