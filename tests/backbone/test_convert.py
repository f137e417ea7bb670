"""Checkpoints of other people's code. Keys on the left are theirs, written down from their modules."""

import pytest
import torch

from vssl.backbone.c3d import C3D
from vssl.backbone.convert import convert
from vssl.backbone.hara import ResNet3D
from vssl.backbone.i3d import I3D
from vssl.backbone.r2plus1d import R2Plus1D
from vssl.backbone.resnet3d import R3D
from vssl.backbone.s3d_g import S3DG
from vssl.backbone.slow_r50 import SlowR50
from vssl.backbone.torchvision_nets import VideoResNet18
from vssl.errors import OptionError, VsslError

BN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def keys(tensors, *pairs):
    """Pairs of keys, one for each tensor of the modules in `pairs`."""
    return {f"{theirs}.{t}": f"{ours}.{t}" for theirs, ours in pairs for t in tensors}


def vcop_r3d():
    pairs = keys(["weight"], ("conv1.temporal_spatial_conv", "stem.conv")) | keys(BN, ("bn1", "stem.bn"))
    for theirs, ours in (("conv2", 0), ("conv3", 1), ("conv4", 2), ("conv5", 3)):
        block, to = f"{theirs}.block1", f"stages.{ours}.0"
        for conv in ("conv1", "conv2"):
            pairs |= keys(["weight"], (f"{block}.{conv}.temporal_spatial_conv", f"{to}.{conv}"))
        pairs |= keys(BN, (f"{block}.bn1", f"{to}.bn1"), (f"{block}.bn2", f"{to}.bn2"))
        if ours:
            pairs |= keys(
                ["weight"], (f"{block}.downsampleconv.temporal_spatial_conv", f"{to}.shortcut.conv")
            )
            pairs |= keys(BN, (f"{block}.downsamplebn", f"{to}.shortcut.bn"))
    return pairs


def vcop_r2plus1d():
    pairs = {}
    for theirs, ours in vcop_r3d().items():
        conv = theirs.removesuffix(".temporal_spatial_conv.weight")
        if conv == theirs:
            pairs[theirs] = ours
            continue
        to = ours.removesuffix(".weight")
        pairs |= keys(["weight"], (f"{conv}.spatial_conv", f"{to}.spatial"))
        pairs |= keys(["weight"], (f"{conv}.temporal_conv", f"{to}.temporal"))
        pairs |= keys(BN, (f"{conv}.bn", f"{to}.bn"))
    return pairs


def vcop_c3d():
    pairs = {}
    for layer in ("1", "2", "3a", "3b", "4a", "4b", "5a", "5b"):
        pairs |= keys(["weight", "bias"], (f"conv{layer}", f"layers.conv{layer}"))
        pairs |= keys(BN, (f"bn{layer}", f"layers.bn{layer}"))
    return pairs


def rspnet_resnet18():
    pairs = keys(["weight"], ("conv1", "stem.conv")) | keys(BN, ("bn1", "stem.bn"))
    for stage in range(4):
        for block in range(2):
            theirs, ours = f"layer{stage + 1}.{block}", f"stages.{stage}.{block}"
            for part in ("1", "2"):
                pairs |= keys(["weight"], (f"{theirs}.conv{part}", f"{ours}.conv{part}"))
                pairs |= keys(BN, (f"{theirs}.bn{part}", f"{ours}.bn{part}"))
        if stage:
            theirs, ours = f"layer{stage + 1}.0.downsample", f"stages.{stage}.0.shortcut"
            pairs |= keys(["weight"], (f"{theirs}.0", f"{ours}.conv"))
            pairs |= keys(BN, (f"{theirs}.1", f"{ours}.bn"))
    return pairs


def rspnet_s3dg():
    units = [("feature.basicConv3d", "layers.conv2b")]
    separable = [("feature.sepConv1", "layers.stem"), ("feature.sep_conv2", "layers.conv2c")]
    for block in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"):
        theirs, ours = f"feature.sepInc_{block}", f"layers.mixed_{block}"
        units += [
            (f"{theirs}.{b}", f"{ours}.{b}") for b in ("branch0", "branch1.0", "branch2.0", "branch3.1")
        ]
        separable += [(f"{theirs}.{b}", f"{ours}.{b}") for b in ("branch1.1", "branch2.1")]
    pairs = {}
    for theirs, ours in separable:
        units += [(f"{theirs}.sep_conv.0", f"{ours}.spatial"), (f"{theirs}.sep_conv.1", f"{ours}.temporal")]
        pairs |= keys(["weight", "bias"], (f"{theirs}.excitation", f"{ours}.gate.linear"))
    for theirs, ours in units:
        pairs |= keys(["weight"], (f"{theirs}.conv3d", f"{ours}.conv"))
        pairs |= keys(BN, (f"{theirs}.bn", f"{ours}.bn"))
    return pairs


def nets():
    """Networks of equal layout without memory behind their weights: a converter looks at shapes only."""
    with torch.device("meta"):
        return {
            "r3d": R3D([1, 1, 1, 1]),
            "r2plus1d": R2Plus1D([1, 1, 1, 1]),
            "c3d": C3D(),
            "hara": ResNet3D([2, 2, 2, 2]),
            "s3d_g": S3DG(bn_momentum=0.1),
        }


NETS = nets()
OWN = {name: net.state_dict() for name, net in NETS.items()}
LAYOUTS = {
    "r3d": vcop_r3d(),
    "r2plus1d": vcop_r2plus1d(),
    "c3d": vcop_c3d(),
    "hara": rspnet_resnet18(),
    "s3d_g": rspnet_s3dg(),
}


FIRST = {"r3d": "stem.conv.weight", "r2plus1d": "stem.conv.spatial.weight", "c3d": "layers.conv1.weight"}


def checkpoint(name, prefix=""):
    """Our own tensors under their keys."""
    return {prefix + theirs: OWN[name][ours] for theirs, ours in LAYOUTS[name].items()}


PUBLISHED = [
    ("vcop", "r3d", "base_network."),  # VCOP
    ("vcop", "r2plus1d", "base_network."),
    ("vcop", "c3d", "base_network."),
    ("vcop", "r2plus1d", ""),  # VCOP, fine-tuned
    ("videopace", "r3d", "module."),  # VideoPace and VSPP, several GPUs
    ("videopace", "r2plus1d", ""),  # VideoPace, one GPU
    ("videopace", "r2plus1d", "encoder_q.module."),  # auxSKD
    ("rspnet", "hara", "encoder_q.encoder."),  # RSPNet, pretrained
    ("rspnet", "hara", "module.encoder_q.encoder."),
    ("rspnet", "hara", "encoder."),  # RSPNet, fine-tuned
    ("rspnet", "r2plus1d", "encoder_q.encoder."),
    ("rspnet", "c3d", "encoder_q.encoder."),
    ("rspnet", "s3d_g", "encoder_q.encoder."),
]


@pytest.mark.parametrize(("family", "name", "prefix"), PUBLISHED)
def test_every_tensor_finds_its_place(family, name, prefix):
    converted = convert(family, checkpoint(name, prefix), NETS[name])
    assert converted.unused == []
    assert converted.state.keys() == OWN[name].keys()
    turned = [key for key, tensor in OWN[name].items() if converted.state[key] is not tensor]
    assert turned == ([FIRST[name]] if family == "videopace" else [])  # from BGR


def test_values_arrive():
    torch.manual_seed(0)
    source, target = R3D([1, 1, 1, 1]), R3D([1, 1, 1, 1])
    own = source.state_dict()
    theirs = {f"base_network.{key}": own[name] for key, name in LAYOUTS["r3d"].items()}
    target.load_state_dict(convert("vcop", theirs, target).state)
    clips = torch.randn(2, 3, 4, 16, 16)
    assert torch.equal(source.eval()(clips), target.eval()(clips))


@pytest.mark.parametrize("name", ["r3d", "r2plus1d", "c3d"])
def test_weights_for_bgr_see_rgb_as_they_saw_bgr(name):
    torch.manual_seed(0)
    net = {"r3d": lambda: R3D([1] * 4), "r2plus1d": lambda: R2Plus1D([1] * 4), "c3d": C3D}[name]().double()
    own = net.state_dict()
    theirs = {f"module.{key}": own[ours].clone() for key, ours in LAYOUTS[name].items()}
    clips_bgr = torch.randn(1, 3, 16, 32, 32, dtype=torch.float64)
    expected = net.eval()(clips_bgr)
    net.load_state_dict(convert("videopace", theirs, net).state)
    assert torch.allclose(net(clips_bgr.flip(1)), expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(net(clips_bgr), expected, rtol=1e-3)


def test_more_blocks_per_stage():
    with torch.device("meta"):
        net = R3D([1, 3, 1, 1])
    own = net.state_dict()
    theirs = {key: own[name] for key, name in LAYOUTS["r3d"].items()}
    for block in (1, 2):
        for conv in ("conv1", "conv2"):
            weight = own[f"stages.1.{block}.{conv}.weight"]
            theirs[f"conv3.blocks.{block - 1}.{conv}.temporal_spatial_conv.weight"] = weight
        for bn in ("bn1", "bn2"):
            for tensor in BN:
                theirs[f"conv3.blocks.{block - 1}.{bn}.{tensor}"] = own[f"stages.1.{block}.{bn}.{tensor}"]
    state = convert("vcop", theirs, net).state
    assert all(state[key] is own[key] for key in own)


def test_heads_and_teacher_of_auxskd_are_unused():
    student = checkpoint("r2plus1d", "encoder_q.module.")
    teacher = {
        key.replace("encoder_q", "encoder_k"): torch.empty_like(value) for key, value in student.items()
    }
    extras = ["encoder_q.module.linear.weight", "predict_q_c.module.0.weight", "queue", "queue_ptr"]
    state = {**teacher, **student, **{key: torch.zeros(1) for key in extras}}
    converted = convert("videopace", state, NETS["r2plus1d"])
    assert converted.unused == [*teacher, *extras]
    others = [key for key in OWN["r2plus1d"] if key != FIRST["r2plus1d"]]
    assert all(converted.state[key] is OWN["r2plus1d"][key] for key in others)


def test_heads_and_key_encoder_of_rspnet_are_unused():
    query = checkpoint("hara", "encoder_q.encoder.")
    key_encoder = {key.replace("encoder_q", "encoder_k"): value for key, value in query.items()}
    extras = ["encoder_q.encoder.fc.weight", "encoder_q.fc1.2.weight", "encoder_q.fc2.2.bias", "queue"]
    state = {**query, **key_encoder, **{key: torch.zeros(1) for key in extras}}
    assert convert("rspnet", state, NETS["hara"]).unused == [*key_encoder, *extras]


def test_missing_weight_is_named():
    state = checkpoint("r2plus1d", "base_network.")
    del state["base_network.conv4.block1.downsampleconv.bn.running_var"]
    with pytest.raises(VsslError, match=r"1 missing \(stages\.2\.0\.shortcut\.conv\.bn\.running_var\)"):
        convert("vcop", state, NETS["r2plus1d"])


def test_wrong_shape_is_named():
    state = checkpoint("r3d") | {"conv1.temporal_spatial_conv.weight": torch.zeros(64, 1, 3, 7, 7)}
    message = (
        r"1 of another shape \(stem\.conv\.weight has \(64, 1, 3, 7, 7\) instead of \(64, 3, 3, 7, 7\)\)"
    )
    with pytest.raises(VsslError, match=message):
        convert("vcop", state, NETS["r3d"])


def test_checkpoint_of_another_net():
    with pytest.raises(VsslError, match=r"not weights of R3D: .*not understood: .*spatial_conv.*\.\.\."):
        convert("vcop", checkpoint("r2plus1d"), NETS["r3d"])
    with pytest.raises(VsslError, match="not weights of ResNet3D"):
        convert("rspnet", {}, NETS["hara"])


def test_net_that_the_family_never_published():
    with pytest.raises(VsslError, match="S3DG were published: choose one of R3D, R2Plus1D, C3D"):
        convert("vcop", checkpoint("s3d_g"), NETS["s3d_g"])
    with pytest.raises(VsslError, match="choose one of ResNet3D"):
        convert("rspnet", checkpoint("r3d"), NETS["r3d"])


def test_s3d_g_of_videopace_is_another_net():
    with pytest.raises(VsslError, match=r"^VideoPace's S3D-G is another net than this one of RSPNet: no "):
        convert("videopace", {"conv1.conv1.weight": torch.zeros(1)}, NETS["s3d_g"])


HEAD = torch.zeros(4, 512)
OTHERS = [  # what tells a checkpoint's family, one that it is not, and whose keys they are
    (
        "r2plus1d",
        "module.",
        {"module.linear_segment.weight": HEAD},
        "vcop",
        "VideoPace, VSPP or auxSKD",
        "videopace",
    ),
    (
        "r2plus1d",
        "",
        {"linear.weight": HEAD, "linear_segment.weight": HEAD},
        "vcop",
        "VideoPace",
        "videopace",
    ),
    ("r3d", "", {"linear.weight": HEAD}, "vcop", "VideoPace, VSPP or auxSKD", "videopace"),
    ("r2plus1d", "encoder_q.module.", {}, "vcop", "VideoPace, VSPP or auxSKD", "videopace"),
    ("r2plus1d", "base_network.", {}, "videopace", "VCOP or PRP", "vcop"),
    ("r2plus1d", "encoder_q.encoder.", {}, "videopace", "RSPNet", "rspnet"),
    ("c3d", "base_network.", {}, "rspnet", "VCOP or PRP", "vcop"),
]


@pytest.mark.parametrize(("net", "prefix", "others", "family", "whose", "right"), OTHERS)
def test_the_keys_of_another_family_are_refused(net, prefix, others, family, whose, right):
    """Its colours would be the wrong way round, or its pixels in another range."""
    message = rf"^convert\.family={family}: the keys are those of {whose}.*; say convert\.family={right}$"
    with pytest.raises(OptionError, match=message):
        convert(family, {**checkpoint(net, prefix), **others}, NETS[net])


def test_a_classifier_of_vcop_is_taken_as_one():
    state = {**checkpoint("r3d"), "linear.weight": torch.zeros(101, 512)}
    assert convert("vcop", state, NETS["r3d"]).unused == ["linear.weight"]


def test_two_sets_of_weights_in_one_file():
    state = checkpoint("c3d", "module.") | checkpoint("c3d", "base_network.")
    with pytest.raises(VsslError, match=r"module\.conv1\.weight and base_network\.conv1\.weight"):
        convert("vcop", state, NETS["c3d"])


def torchvision(name, prefix, numbered=False):
    """A checkpoint of one of torchvision's nets; `numbered`: its stages are called 0 to 4."""
    own = OF_NET[name]
    stages = {"stem": "0", **{f"layer{n}": str(n) for n in range(1, 5)}} if numbered else {}
    parts = ((key.partition("."), tensor) for key, tensor in own.items())
    return {f"{prefix}{stages.get(stage, stage)}.{rest}": tensor for (stage, _, rest), tensor in parts}


with torch.device("meta"):
    TORCHVISION = {
        "r3d_18": VideoResNet18("r3d_18", 2, 2, 1e-5),
        "r2plus1d_18": VideoResNet18("r2plus1d_18", 2, 2, 1e-5),
        "r3d_18 of TCLR": VideoResNet18("r3d_18", 2, 1, 1e-5),
    }
OF_NET = {name: net.state_dict() for name, net in TORCHVISION.items()}
IMAGENET = (1.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
KINETICS = (1.0, [0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989])
OTHER_PARTS = [  # heads, key encoders, queues and audio networks, which belong to no backbone
    "fc.weight",
    "module.encoder_q.fc.weight",
    "module.encoder_k.stem.0.weight",
    "module.queue",
    "module.audio_network.base.conv1.weight",
    "audio_network.base.layer1.0.conv1.weight",
    "mlp_a.block_forward.0.weight",
    "module.audio_model.conv1.0.weight",
    "module.1.0.weight",
]
# whose, net, prefix, whether stages are numbers, pixels, frames, BGR
OF_TORCHVISION = [
    ("VideoMoCo or MoCo", "r2plus1d_18", "module.encoder_q.", False, IMAGENET, 32, False),
    ("VideoMoCo or MoCo", "r3d_18", "module.encoder_q.", False, IMAGENET, 32, False),
    ("SeLaVi", "r2plus1d_18", "module.video_network.base.", False, IMAGENET, 32, False),
    ("GDT", "r2plus1d_18", "video_network.base.", False, IMAGENET, 32, False),
    ("AVID-CMA", "r2plus1d_18", "module.video_model.", False, IMAGENET, 32, False),
    ("RSPNet as SEVERE", "r2plus1d_18", "encoder_q.encoder.base_network.", True, IMAGENET, 32, False),
    ("Pretext-Contrast", "r2plus1d_18", "module.base_network.", True, IMAGENET, 32, False),
    ("TCLR", "r3d_18 of TCLR", "module.0.", False, (1.0, None, None), 16, True),
    ("torchvision", "r2plus1d_18", "", False, KINETICS, 16, False),
    ("torchvision", "r3d_18", "", False, KINETICS, 16, False),
]


@pytest.mark.parametrize("case", OF_TORCHVISION, ids=lambda case: f"{case[0]}, {case[1]}")
def test_nets_of_torchvision_from_wherever(case):
    whose, name, prefix, numbered, pixels, frames, bgr = case
    state = torchvision(name, prefix, numbered)
    of_keys = [key.replace("encoder_q", "encoder_k") for key in state if "encoder_q" in key]
    unused = [*OTHER_PARTS, *of_keys]
    state |= {key: torch.zeros(1) for key in unused}
    converted = convert("torchvision", state, TORCHVISION[name])
    own = OF_NET[name]
    assert converted.unused == list(dict.fromkeys(unused))
    assert converted.state.keys() == own.keys()
    assert [key for key in own if converted.state[key] is not own[key]] == (["stem.0.weight"] if bgr else [])
    origin = converted.origin
    assert origin.names.startswith(whose)
    assert (tuple(origin.pixels), origin.frames, origin.bgr) == (pixels, frames, bgr)


def test_what_is_said_of_weights():
    tclr = convert("torchvision", torchvision("r3d_18 of TCLR", "module.0."), TORCHVISION["r3d_18 of TCLR"])
    assert str(tclr.origin) == "TCLR: trained on 16 frames, pixels 0..1, BGR, turned to RGB here"
    gdt = convert("torchvision", torchvision("r3d_18", "video_network.base."), TORCHVISION["r3d_18"])
    assert str(gdt.origin) == (
        "GDT: trained on 32 frames, pixels 0..1, less [0.485, 0.456, 0.406] by [0.229, 0.224, 0.225] "
        "as SEVERE shows them, RGB"
    )


@pytest.mark.parametrize(
    ("name", "option"), [("r3d_18", "last_temporal_stride"), ("r2plus1d_18", "architecture")]
)
def test_tclr_has_a_net_of_its_own(name, option):
    with pytest.raises(OptionError, match=rf"^backbone\.{option}=.*: TCLR's weights are of another net; say"):
        convert("torchvision", torchvision(name, "module.0."), TORCHVISION[name])


def slow_r50():
    """Keys of PySlowFast, whose blocks are branches: 1 the shortcut, 2 the convolutions a, b and c."""
    pairs = keys(["weight"], ("s1.pathway0_stem.conv", "stem.conv"))
    pairs |= keys(BN, ("s1.pathway0_stem.bn", "stem.bn"))
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            theirs, ours = f"s{stage + 2}.pathway0_res{block}", f"stages.{stage}.{block}"
            for number, letter in enumerate("abc", start=1):
                pairs |= keys(["weight"], (f"{theirs}.branch2.{letter}", f"{ours}.conv{number}"))
                pairs |= keys(BN, (f"{theirs}.branch2.{letter}_bn", f"{ours}.bn{number}"))
            if block == 0:
                pairs |= keys(["weight"], (f"{theirs}.branch1", f"{ours}.shortcut.conv"))
                pairs |= keys(BN, (f"{theirs}.branch1_bn", f"{ours}.shortcut.bn"))
    return pairs


def i3d():
    """Keys of the PyTorch version of I3D: b0, b1a, b1b, b2a, b2b and b3b are the units of a block."""
    units = [("Conv3d_1a_7x7", "stem"), ("Conv3d_2b_1x1", "conv2b"), ("Conv3d_2c_3x3", "conv2c")]
    branches = {"b0": "branch0", "b1a": "branch1.0", "b1b": "branch1.1"}
    branches |= {"b2a": "branch2.0", "b2b": "branch2.1", "b3b": "branch3.1"}
    for block in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"):
        units += [(f"Mixed_{block}.{one}", f"mixed_{block}.{other}") for one, other in branches.items()]
    pairs = {}
    for theirs, ours in units:
        pairs |= keys(["weight"], (f"{theirs}.conv3d", f"layers.{ours}.conv"))
        pairs |= keys(BN, (f"{theirs}.bn", f"layers.{ours}.bn"))
    return pairs


def prp_c3d():
    """Keys of PRP's C3D: convolution and batch norm are the parts of one module."""
    pairs = {}
    for layer in ("1", "2", "3a", "3b", "4a", "4b", "5a", "5b"):
        pairs |= keys(["weight", "bias"], (f"conv{layer}.conv3d.0", f"layers.conv{layer}"))
        pairs |= keys(BN, (f"conv{layer}.conv3d.1", f"layers.bn{layer}"))
    return pairs


MORE = [
    ("pyslowfast", SlowR50, slow_r50(), "backbone.", "backbone_hist.s1.pathway0_stem.conv.weight", "rhoMoCo"),
    ("pyslowfast", SlowR50, slow_r50(), "", "head.projection.weight", "rhoMoCo"),
    ("i3d", lambda: I3D(0.1), i3d(), "", "logits.conv3d.weight", "I3D"),
    ("vcop", C3D, prp_c3d(), "module.base_network.", "module.reconstruction.0.weight", "VCOP or PRP"),
]


@pytest.mark.parametrize("case", MORE, ids=lambda case: f"{case[0]} {case[3]}")
def test_every_tensor_of_other_nets_finds_its_place(case):
    family, net, layout, prefix, other, whose = case
    with torch.device("meta"):
        backbone = net()
    own = backbone.state_dict()
    assert sorted(layout.values()) == sorted(own)
    state = {prefix + theirs: own[ours] for theirs, ours in layout.items()}
    converted = convert(family, {**state, other: torch.zeros(1)}, backbone)
    assert converted.unused == [other]
    assert all(converted.state[key] is own[key] for key in own)
    assert converted.origin.names.startswith(whose)


def test_i3d_of_others_has_as_many_entries_as_were_published():
    assert len(i3d()) + 2 == 344  # with the weight and the bias of its classes


def test_weights_of_torchvision_are_not_taken_for_others():
    message = (
        r"^convert\.family=vcop: the keys are those of VideoMoCo or MoCo; say convert\.family=torchvision$"
    )
    with pytest.raises(OptionError, match=message):
        convert("vcop", torchvision("r3d_18", "module.encoder_q."), TORCHVISION["r3d_18"])
