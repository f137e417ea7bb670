"""Whose weights there are, how their keys tell them, and what the networks were shown.

Sources: the loading code of the repositories named, and that of SEVERE (Thoker et al., ECCV 2022), which
tests nine of them; no published file was opened.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from vssl.backbone.c3d import C3D
from vssl.backbone.hara import ResNet3D
from vssl.backbone.i3d import I3D
from vssl.backbone.r2plus1d import R2Plus1D
from vssl.backbone.resnet3d import R3D
from vssl.backbone.s3d_g import S3DG
from vssl.backbone.slow_r50 import SlowR50
from vssl.backbone.torchvision_nets import VideoResNet18
from vssl.types import Backbone


class Pixels(NamedTuple):
    """The range that a network sees: grey levels times pixel_max / 255, less the mean, by the deviation."""

    pixel_max: float
    mean: list[float] | None = None
    std: list[float] | None = None

    def __str__(self) -> str:
        """In words."""
        normalised = f", less {self.mean} by {self.std}" if self.mean else ""
        return f"0..{self.pixel_max:g}{normalised}"


SHARES = Pixels(1.0)
IMAGENET = Pixels(1.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
KINETICS = Pixels(1.0, [0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989])


@dataclass(frozen=True)
class Origin:
    """Weights of one kind.

    names: whose. sign: regular expression of a key that they have and those further down the list have not.
    pixels, frames: what a clip was in training. nets: that they were published of. bgr: colours in the
    order of OpenCV. options: of the backbone, without which the weights mean something else.
    as_severe: pixels and frames are those of SEVERE's fine-tuning; the authors' own were not looked up.
    """

    names: str
    sign: str
    pixels: Pixels
    frames: int = 16
    family: str = "torchvision"
    nets: tuple[type[Backbone], ...] = (VideoResNet18,)
    bgr: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    as_severe: bool = False

    def __str__(self) -> str:
        """What to know of the weights, in words."""
        by = " as SEVERE shows them" if self.as_severe else ""
        colours = "BGR, turned to RGB here" if self.bgr else "RGB"
        return f"{self.names}: trained on {self.frames} frames, pixels {self.pixels}{by}, {colours}"


_ONE_BLOCK, _OF_RSPNET = (R3D, R2Plus1D, C3D), (ResNet3D, R2Plus1D, C3D, S3DG)

ORIGINS = [
    Origin(
        "rhoMoCo, rhoBYOL, rhoSimCLR, rhoSwAV or another Slow R50 of PySlowFast",
        r"\.pathway0_",
        Pixels(1.0, [0.45] * 3, [0.225] * 3),
        frames=8,
        family="pyslowfast",
        nets=(SlowR50,),
    ),
    Origin(
        "I3D trained on Kinetics with labels",
        r"^(module\.)?Mixed_3b\.b0\.",
        Pixels(1.0, [0.5] * 3, [0.5] * 3),
        frames=64,
        family="i3d",
        nets=(I3D,),
    ),
    Origin("VideoMoCo or MoCo", r"(^|\.)encoder_q\.stem\.\d", IMAGENET, frames=32),
    Origin("SeLaVi", r"^module\.video_network\.base\.", IMAGENET, frames=32, as_severe=True),
    Origin("GDT", r"^video_network\.base\.", IMAGENET, frames=32, as_severe=True),
    Origin("AVID-CMA", r"(^|\.)video_model\.stem\.\d", IMAGENET, frames=32, as_severe=True),
    Origin(
        "RSPNet as SEVERE trained it", r"(^|\.)encoder\.base_network\.\d", IMAGENET, frames=32, as_severe=True
    ),
    Origin("Pretext-Contrast", r"(^|\.)base_network\.\d", IMAGENET, frames=32, as_severe=True),
    # TCLR's R(2+1)D has a whole 3x3x3 convolution where this net's is factored.
    Origin(
        "TCLR",
        r"^(module\.)?0\.stem\.\d",
        SHARES,
        bgr=True,
        options={"architecture": "r3d_18", "last_temporal_stride": 1},
    ),
    Origin("torchvision, trained on Kinetics with labels", r"^(module\.)?stem\.\d", KINETICS),
    Origin("RSPNet", r"(^|\.)encoder\.", IMAGENET, family="rspnet", nets=_OF_RSPNET),
    Origin("VCOP or PRP", r"(^|\.)base_network\.", SHARES, family="vcop", nets=_ONE_BLOCK),
    # auxSKD's student, VSPP's second head, and a net on several GPUs, where VCOP has one.
    Origin(
        "VideoPace, VSPP or auxSKD",
        r"(^|\.)encoder_q\.|(^|\.)linear_segment\.|^module\.",
        Pixels(255.0),
        family="videopace",
        nets=_ONE_BLOCK,
        bgr=True,
    ),
]
FAMILIES = list(dict.fromkeys(origin.family for origin in ORIGINS))

PACES = 4
"""Rows of VideoPace's head; VCOP's nets of the same keys have 101 or 51 classes."""

PREFIX = r"^(module\.|base_network\.|encoder_q\.|encoder\.|video_network\.base\.|video_model\.|backbone\.)+"

Renames = list[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Pattern and replacement; all are applied, in order, to a key without its prefix."""

RESIDUAL: Renames = [
    (r"^conv1\.", "stem.conv."),
    (r"^bn1\.", "stem.bn."),
    (r"^conv(\d)\.block1\.", lambda m: f"stages.{int(m[1]) - 2}.0."),
    (r"^conv(\d)\.blocks\.(\d+)\.", lambda m: f"stages.{int(m[1]) - 2}.{int(m[2]) + 1}."),
    (r"\.downsampleconv\.", ".shortcut.conv."),
    (r"\.downsamplebn\.", ".shortcut.bn."),
    (r"\.temporal_spatial_conv\.", "."),
    (r"\.spatial_conv\.", ".spatial."),
    (r"\.temporal_conv\.", ".temporal."),
    (r"^layer(\d)\.", lambda m: f"stages.{int(m[1]) - 1}."),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.bn."),
]
GATED: Renames = [
    (r"^feature\.", "layers."),
    (r"\.sepConv1\.", ".stem."),
    (r"\.basicConv3d\.", ".conv2b."),
    (r"\.sep_conv2\.", ".conv2c."),
    (r"\.sepInc_", ".mixed_"),
    (r"\.sep_conv\.0\.", ".spatial."),
    (r"\.sep_conv\.1\.", ".temporal."),
    (r"\.excitation\.", ".gate.linear."),
    (r"\.conv3d\.", ".conv."),
]
NUMBERED: Renames = [
    (r"^0\.(?=stem|layer)", ""),  # TCLR: the first part of a net and a head
    (r"^([0-4])\.(?=\d)", r"layer\1."),  # Pretext-Contrast and SEVERE's RSPNet: all stages in one list
    (r"^layer0\.", "stem."),
]
PATHWAY: Renames = [
    (r"^s1\.pathway0_stem\.", "stem."),
    (r"^s(\d)\.pathway0_res(\d+)\.", lambda m: f"stages.{int(m[1]) - 2}.{m[2]}."),
    (r"\.branch1\.", ".shortcut.conv."),
    (r"\.branch1_bn\.", ".shortcut.bn."),
    (r"\.branch2\.([abc])\.", lambda m: f".conv{'abc'.index(m[1]) + 1}."),
    (r"\.branch2\.([abc])_bn\.", lambda m: f".bn{'abc'.index(m[1]) + 1}."),
]
INFLATED: Renames = [
    (r"^Conv3d_1a_7x7\.", "layers.stem."),
    (r"^Conv3d_(2[bc])_\dx\d\.", r"layers.conv\1."),
    (r"^Mixed_", "layers.mixed_"),
    (r"\.b0\.", ".branch0."),
    (r"\.b([12])([ab])\.", lambda m: f".branch{m[1]}.{'ab'.index(m[2])}."),
    (r"\.b3b\.", ".branch3.1."),
    (r"\.conv3d\.", ".conv."),
]

RENAMES: dict[type[Backbone], Renames] = {
    R3D: RESIDUAL,
    R2Plus1D: RESIDUAL,
    ResNet3D: RESIDUAL,
    C3D: [
        (r"^conv(\d\w?)\.conv3d\.0\.", r"conv\1."),  # PRP
        (r"^conv(\d\w?)\.conv3d\.1\.", r"bn\1."),
        (r"^(conv|bn)(?=\d)", r"layers.\1"),
    ],
    S3DG: GATED,
    VideoResNet18: NUMBERED,
    SlowR50: PATHWAY,
    I3D: INFLATED,
}


def origin_of(keys: Iterable[str], rows_of_head: int | None) -> Origin | None:
    """Whose weights these keys are, None if nothing tells it.

    rows_of_head: of a `linear.weight`, None if there is none.
    """
    keys = list(keys)
    for origin in ORIGINS:
        if any(re.search(origin.sign, key) for key in keys):
            return origin
    return ORIGINS[-1] if rows_of_head == PACES else None


def first_of(family: str) -> Origin:
    """What the weights of a family are taken for if nothing tells more."""
    return next(origin for origin in ORIGINS if origin.family == family)
