"""Weights published by others as state dicts of our backbones.

Converted weights expect RGB in the range that they were trained with: VCOP's 0..1, those of VideoPace, VSPP
and auxSKD 0..255, RSPNet's normalised by ImageNet's mean and standard deviation.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from vssl.backbone.c3d import C3D
from vssl.backbone.hara import ResNet3D
from vssl.backbone.r2plus1d import R2Plus1D
from vssl.backbone.resnet3d import R3D
from vssl.backbone.s3d_g import S3DG
from vssl.errors import OptionError, VsslError
from vssl.types import Backbone

CONVOLUTION, COLOURS = 5, 3
"""Dimensions of the weight of a 3D convolution, and the size of its second one in the first layer."""

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

RENAMES: dict[type[Backbone], Renames] = {
    R3D: RESIDUAL,
    R2Plus1D: RESIDUAL,
    ResNet3D: RESIDUAL,
    C3D: [(r"^(conv|bn)(?=\d)", r"layers.\1")],
    S3DG: GATED,
}
PREFIX = r"^(module\.|base_network\.|encoder_q\.|encoder\.)+"

PUBLISHED: dict[str, list[type[Backbone]]] = {
    "vcop": [R3D, R2Plus1D, C3D],
    "videopace": [R3D, R2Plus1D, C3D],
    "rspnet": [ResNet3D, R2Plus1D, C3D, S3DG],
}
"""Nets by family: the pretext whose range of pixels the weights expect."""


SIGNS = [
    ("rspnet", r"(^|\.)encoder\."),
    ("vcop", r"(^|\.)base_network\."),
    ("videopace", r"(^|\.)encoder_q\.|(^|\.)linear_segment\.|^module\."),
]
"""Keys that one family has and those below it do not. The last are auxSKD's student, VSPP's second head, and
a net on several GPUs, where VCOP has one."""

PACES = 4
"""Rows of VideoPace's head; VCOP's nets of the same keys have 101 or 51 classes."""


class Converted(NamedTuple):
    """A state dict that the backbone loads strictly, and the keys of the checkpoint that it did not need."""

    state: dict[str, Tensor]
    unused: list[str]


def convert(family: str, state: Mapping[str, Tensor], backbone: Backbone) -> Converted:
    """Convert a checkpoint, given as the mapping from keys to tensors.

    family: `vcop`; `videopace`, also for VSPP and auxSKD, which were trained on BGR like it: the first
        convolution is turned to RGB; or `rspnet`, pretrained or fine-tuned. Of auxSKD the student is taken,
        as its primary stage does, of RSPNet the query encoder; other nets, queues and heads are unused.
        VideoPace's S3D-G is another net than ours and is not converted.

    Raises `VsslError` if a weight of the backbone is missing or of another shape, or the keys are those of
    another family, whose colours and range of pixels would be wrong.
    """
    net, wanted = type(backbone), backbone.state_dict()
    _refuse_others(family, _family(state), net)
    key_of: dict[str, str] = {}
    unused = []
    for key in state:
        name = key
        for pattern, replacement in [(PREFIX, ""), *RENAMES[net]]:
            name = re.sub(pattern, replacement, name)
        if name not in wanted:
            unused.append(key)
        elif name in key_of:
            raise VsslError(f"two sets of weights in one file, {key_of[name]} and {key}: remove one")
        else:
            key_of[name] = key
    converted = Converted({name: state[key] for name, key in key_of.items()}, unused)
    _check(converted, wanted, net.__name__)
    if family == "videopace":
        for name, tensor in converted.state.items():
            if tensor.ndim == CONVOLUTION and tensor.shape[1] == COLOURS:
                converted.state[name] = tensor.flip(1)
    return converted


def _refuse_others(family: str, found: str | None, net: type[Backbone]) -> None:
    """Raise `VsslError` for keys of another family, and for a net that the family published no weights of."""
    if found not in (family, None):
        problem = f"the keys are those of {'VideoPace, VSPP or auxSKD' if found == 'videopace' else found}"
        raise OptionError("convert.family", family, problem, f"say convert.family={found}")
    if family == "videopace" and net is S3DG:
        raise VsslError(
            "VideoPace's S3D-G is another net than this one of RSPNet: no backbone takes its weights"
        )
    if net not in PUBLISHED[family]:
        choices = ", ".join(choice.__name__ for choice in PUBLISHED[family])
        raise VsslError(f"no such weights of {net.__name__} were published: choose one of {choices}")


def _family(state: Mapping[str, Tensor]) -> str | None:
    """The family that a checkpoint is of, None if nothing tells it."""
    found = next((name for name, sign in SIGNS if any(re.search(sign, key) for key in state)), None)
    head = state.get("linear.weight")
    return "videopace" if not found and head is not None and len(head) == PACES else found


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
