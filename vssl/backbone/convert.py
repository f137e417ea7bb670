"""Weights published by others as state dicts of our backbones.

Pass the mapping from keys to tensors. Checkpoints nest it under "state_dict" (VideoPace, auxSKD) or
"model" (RSPNet), or are that mapping (VCOP, VSPP).

Converted weights expect RGB in the range that they were trained with: VCOP's 0..1, those of VideoPace, VSPP
and auxSKD 0..255, RSPNet's normalised by ImageNet's mean and standard deviation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from vssl.backbone.c3d import C3D
from vssl.backbone.hara import ResNet3D
from vssl.backbone.r2plus1d import R2Plus1D
from vssl.backbone.resnet3d import R3D
from vssl.backbone.s3d_g import S3DG
from vssl.errors import VsslError
from vssl.types import Backbone

CONVOLUTION, COLOURS = 5, 3
"""Dimensions of the weight of a 3D convolution, and the size of its second one in the first layer."""

Renames = list[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Pattern and replacement; all are applied, in order, to a key without its prefix."""

VCOP_RESIDUAL: Renames = [
    (r"^conv1\.", "stem.conv."),
    (r"^bn1\.", "stem.bn."),
    (r"^conv(\d)\.block1\.", lambda m: f"stages.{int(m[1]) - 2}.0."),
    (r"^conv(\d)\.blocks\.(\d+)\.", lambda m: f"stages.{int(m[1]) - 2}.{int(m[2]) + 1}."),
    (r"\.downsampleconv\.", ".shortcut.conv."),
    (r"\.downsamplebn\.", ".shortcut.bn."),
    (r"\.temporal_spatial_conv\.", "."),
    (r"\.spatial_conv\.", ".spatial."),
    (r"\.temporal_conv\.", ".temporal."),
]
VCOP_C3D: Renames = [(r"^(conv|bn)(?=\d)", r"layers.\1")]
RSPNET_RESIDUAL: Renames = [
    (r"^conv1\.", "stem.conv."),
    (r"^bn1\.", "stem.bn."),
    (r"^layer(\d)\.", lambda m: f"stages.{int(m[1]) - 1}."),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.bn."),
]
RSPNET_S3DG: Renames = [
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

VCOP: dict[type[Backbone], Renames] = {R3D: VCOP_RESIDUAL, R2Plus1D: VCOP_RESIDUAL, C3D: VCOP_C3D}
RSPNET: dict[type[Backbone], Renames] = {
    ResNet3D: RSPNET_RESIDUAL,
    R2Plus1D: VCOP_RESIDUAL,
    C3D: VCOP_C3D,
    S3DG: RSPNET_S3DG,
}


@dataclass(frozen=True)
class Converted:
    """A state dict that the backbone loads strictly, and the keys of the checkpoint that it did not need."""

    state: dict[str, Tensor]
    unused: list[str]


def convert_vcop(state: Mapping[str, Tensor], backbone: Backbone) -> Converted:
    """Convert a checkpoint of VCOP (R3D, R(2+1)D, C3D).

    Raises `VsslError` if a weight of the backbone is missing or of another shape.
    """
    return _convert(state, backbone, VCOP, prefix=r"^(module\.|base_network\.|encoder_q\.)+")


def convert_videopace(state: Mapping[str, Tensor], backbone: Backbone) -> Converted:
    """Convert a checkpoint of VideoPace, VSPP or auxSKD (R3D, R(2+1)D, C3D), which were trained on BGR.

    The first convolution is turned to RGB. Of auxSKD the student is taken (`encoder_q.`), as its primary
    stage does; teacher, predictor, queue and linear heads are unused. VideoPace's S3D-G is another net than
    ours and is not converted.

    Raises `VsslError` if a weight of the backbone is missing or of another shape.
    """
    converted = convert_vcop(state, backbone)
    return replace(converted, state={name: _to_rgb(tensor) for name, tensor in converted.state.items()})


def _to_rgb(tensor: Tensor) -> Tensor:
    """The weight of a convolution over pixels with its colours the other way round; any other as it is."""
    return tensor.flip(1) if tensor.ndim == CONVOLUTION and tensor.shape[1] == COLOURS else tensor


def convert_rspnet(state: Mapping[str, Tensor], backbone: Backbone) -> Converted:
    """Convert a checkpoint of RSPNet (ResNet-18, R(2+1)D, C3D, S3D-G), pretrained or fine-tuned.

    The query encoder is taken; key encoder, queue and heads are unused.

    Raises `VsslError` if a weight of the backbone is missing or of another shape.
    """
    return _convert(state, backbone, RSPNET, prefix=r"^(module\.|encoder_q\.|encoder\.)+")


def _convert(
    state: Mapping[str, Tensor], backbone: Backbone, family: dict[type[Backbone], Renames], prefix: str
) -> Converted:
    net, wanted = type(backbone), backbone.state_dict()
    if net not in family:
        choices = ", ".join(choice.__name__ for choice in family)
        raise VsslError(f"no such weights of {net.__name__} were published: choose one of {choices}")
    key_of: dict[str, str] = {}
    unused = []
    for key in state:
        name = _rename(key, [(prefix, ""), *family[net]])
        if name not in wanted:
            unused.append(key)
        elif name in key_of:
            raise VsslError(f"two sets of weights in one file, {key_of[name]} and {key}: remove one")
        else:
            key_of[name] = key
    converted = Converted({name: state[key] for name, key in key_of.items()}, unused)
    _check(converted, wanted, net.__name__)
    return converted


def _rename(key: str, renames: Renames) -> str:
    for pattern, replacement in renames:
        key = re.sub(pattern, replacement, key)
    return key


def _check(converted: Converted, wanted: Mapping[str, Tensor], net: str) -> None:
    missing = [name for name in wanted if name not in converted.state]
    misshapen = [
        f"{name} has {tuple(tensor.shape)} instead of {tuple(wanted[name].shape)}"
        for name, tensor in converted.state.items()
        if tensor.shape != wanted[name].shape
    ]
    problems = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
    problems += [f"{len(misshapen)} of another shape ({_some(misshapen)})"] if misshapen else []
    if problems:
        raise VsslError(
            f"not weights of {net}: {'; '.join(problems)}; not understood: {_some(converted.unused)}. "
            "Choose the backbone that the checkpoint was trained with"
        )


def _some(names: list[str]) -> str:
    """The first few, so that the message stays a line."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") or "nothing"
