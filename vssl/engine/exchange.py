"""Add up the gradients of all ranks while backward still computes."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from vssl import distributed

BUCKET_BYTES = 25 * 2**20


class GradientExchange:
    """Sums gradients over ranks in buckets of neighbouring parameters, the last layers first.

    A bucket is sent once backward has made all its gradients, so that most of the exchange is hidden behind
    the layers still to come. Every rank sends all buckets in the same order, whatever it has computed: one
    without samples sends zeros. Buckets that had no gradient for a parameter in the step before come last.
    `hidden=False` sends all after backward, for an objective whose backward has exchanges of its own, which
    must not be overtaken.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], hidden: bool) -> None:
        """`parameters` come in the order in which forward uses them; frozen ones are left out."""
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.buckets = _in_buckets(self.parameters)
        self._order = list(range(len(self.buckets)))
        self._missing: list[int] = []
        self._sums: list[Callable[[], Tensor]] = []
        if hidden:
            for number, bucket in enumerate(self.buckets):
                for parameter in bucket:
                    made = partial(self._made, number)
                    parameter.register_post_accumulate_grad_hook(made)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """The backward that comes next is this rank's last one of the step."""
        self._missing = [len(bucket) for bucket in self.buckets]

    def finish(self) -> None:
        """Give every parameter the sum of its gradients on all ranks; what no rank has used keeps None."""
        if distributed.world_size() == 1:
            return
        while len(self._sums) < len(self.buckets):
            self._send()
        used = dict(zip(self.parameters, distributed.any_rank(*self._has_gradient()), strict=True))
        for number, arrived in zip(self._order, self._sums, strict=True):
            bucket = self.buckets[number]
            parts = torch.split(arrived(), [parameter.numel() for parameter in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                # in the layout of the parameter, which a fused optimiser asks for
                layout = torch.empty_like(parameter)
                parameter.grad = layout.copy_(part.view_as(parameter)) if used[parameter] else None
        self._missing, self._sums = [], []
        # Only their order: a sum over many ranks has other last bits in another bucket.
        self._order = sorted(
            range(len(self.buckets)), key=lambda number: not all(used[p] for p in self.buckets[number])
        )

    def _made(self, number: int, _: Tensor) -> None:
        """Backward has made another gradient of a bucket: send the buckets whose turn it is."""
        if not self._missing:
            return
        self._missing[number] -= 1
        while len(self._sums) < len(self.buckets) and self._missing[self._order[len(self._sums)]] == 0:
            self._send()

    def _send(self) -> None:
        bucket = self.buckets[self._order[len(self._sums)]]
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in bucket]
        self._sums.append(distributed.start_all_reduce(torch.cat(parts)))

    def _has_gradient(self) -> list[bool]:
        return [parameter.grad is not None for parameter in self.parameters]


def _in_buckets(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The parameters from last to first, cut where a bucket is full or the type changes."""
    buckets: list[list[nn.Parameter]] = []
    filled = 0
    for parameter in reversed(parameters):
        if not buckets or filled >= BUCKET_BYTES or parameter.dtype != buckets[-1][-1].dtype:
            buckets.append([])
            filled = 0
        buckets[-1].append(parameter)
        filled += parameter.numel() * parameter.element_size()
    return buckets
