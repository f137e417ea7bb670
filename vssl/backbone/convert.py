"""Weights published by others as state dicts of our backbones."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from vssl.backbone.published import ORIGINS, PREFIX, RENAMES, Origin, first_of, origin_of
from vssl.backbone.s3d_g import S3DG
from vssl.errors import OptionError, VsslError
from vssl.types import Backbone

CONVOLUTION, COLOURS = 5, 3
"""Dimensions of the weight of a 3D convolution, and the size of its second one in the first layer."""


class Converted(NamedTuple):
    """A state dict that the backbone loads strictly, the keys of the checkpoint that it did not need, and
    whose weights they are."""

    state: dict[str, Tensor]
    unused: list[str]
    origin: Origin


def convert(family: str, state: Mapping[str, Tensor], backbone: Backbone) -> Converted:
    """Convert a checkpoint, given as the mapping from keys to tensors.

    family: one of `vssl.backbone.published.FAMILIES`. Weights trained on BGR are turned to RGB in their first
        convolution. Of auxSKD the student is taken, as its primary stage does, of MoCo and RSPNet the query
        encoder, of audio-visual methods the video network; other nets, queues and heads are unused.

    Raises `VsslError` if a weight of the backbone is missing or of another shape, or the keys are those of
    another family, whose colours and range of pixels would be wrong.
    """
    net, wanted = type(backbone), backbone.state_dict()
    head = state.get("linear.weight")
    origin = origin_of(state, None if head is None else len(head))
    _refuse_others(family, origin, backbone)
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
    converted = Converted(
        {name: state[key] for name, key in key_of.items()}, unused, origin or first_of(family)
    )
    _check(converted, wanted, net.__name__)
    if converted.origin.bgr:
        for name, tensor in converted.state.items():
            if tensor.ndim == CONVOLUTION and tensor.shape[1] == COLOURS:
                converted.state[name] = tensor.flip(1)
    return converted


def _refuse_others(family: str, found: Origin | None, backbone: Backbone) -> None:
    """Raise `VsslError` for keys of another family, and for a net that there are no such weights of."""
    net, known = type(backbone), found or first_of(family)
    if known.family != family:
        problem = f"the keys are those of {known.names}"
        raise OptionError("convert.family", family, problem, f"say convert.family={known.family}")
    if family == "videopace" and net is S3DG:
        raise VsslError(
            "VideoPace's S3D-G is another net than this one of RSPNet: no backbone takes its weights"
        )
    nets = dict.fromkeys(one for origin in ORIGINS if origin.family == family for one in origin.nets)
    if net not in nets:
        choices = ", ".join(choice.__name__ for choice in nets)
        raise VsslError(f"no such weights of {net.__name__} were published: choose one of {choices}")
    for name, value in known.options.items():
        if (given := getattr(backbone, name)) != value:
            problem = f"{known.names}'s weights are of another net"
            raise OptionError(f"backbone.{name}", given, problem, f"say {value}; no other net takes them")


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
