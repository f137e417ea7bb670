"""Gradients of several ranks: in pieces, while backward computes, and the same as in one piece."""

import pytest
import torch
from torch import nn
from torch._dynamo.backends import registry

from multiprocess import run_together
from test_distributed import NOTHING_LEFT, close, train
from vssl import distributed
from vssl.engine import exchange, loop
from vssl.engine.exchange import GradientExchange


def train_in_pieces(folder, recipe, bucket_bytes, hidden):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "BUCKET_BYTES", bucket_bytes)
        if not hidden:
            patch.setattr(exchange.GradientExchange, "begin", lambda self: None)
        return train(folder, recipe)[0]


@pytest.mark.parametrize("recipe", [{}, NOTHING_LEFT])
def test_pieces_have_the_bits_of_the_whole(tmp_path, recipe):
    states = []
    for name, size, hidden in (("whole", 2**30, False), ("pieces", 1, True), ("some", 300, True)):
        (tmp_path / name).mkdir()
        states += run_together(train_in_pieces, tmp_path / name, recipe, size, hidden)
    for state in states[1:]:
        close(state, states[0], rtol=0, atol=0)


def train_compiled(folder, part_bytes):
    """By torch's usual operations, which need no compiler; what was learnt, and in how many parts."""
    parts, as_usual = [], registry.lookup_backend("aot_eager")

    def compile_part(graph, inputs):
        parts.append(graph)
        return as_usual(graph, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "BUCKET_BYTES", part_bytes)
        patch.setattr(
            registry, "lookup_backend", lambda asked: compile_part if asked == "inductor" else asked
        )
        return train(folder, {"micro_batch": 1}, compile=True)[0], len(parts)


def test_a_compiled_backbone_has_the_gradients_of_each_part_before_the_next(tmp_path):
    """As a whole it would have all of them when backward ends: no exchange would be hidden behind it."""
    for name in ("eager", "whole", "parts"):
        (tmp_path / name).mkdir()
    eager = run_together(train, tmp_path / "eager", {"micro_batch": 1})
    for name, part_bytes, expected in (("whole", 2**30, 1), ("parts", 1, 2)):
        for state, parts in run_together(train_compiled, tmp_path / name, part_bytes):
            assert parts == expected
            close(state, eager[0][0], rtol=1e-9, atol=1e-12)


def sent_before_the_end(hidden):
    """Pieces that are on their way when backward ends, and the gradients after that. The second rank has no
    sample."""
    layers = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(3)])
    unused, parameters = nn.Parameter(torch.ones(2)), list(layers.parameters())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "BUCKET_BYTES", 1)
        exchanged = GradientExchange([unused, *parameters], hidden)
    for layer in layers:
        nn.init.eye_(layer.weight)
    if distributed.rank() == 0:
        exchanged.begin()
        nn.Sequential(*layers)(torch.ones(1, 2)).sum().backward()
    sent = len(exchanged._sums)
    exchanged.finish()
    return sent, unused.grad, [parameter.grad for parameter in parameters]


@pytest.mark.parametrize("hidden", [True, False])
def test_a_piece_goes_out_when_its_gradients_are_there(hidden):
    answers = run_together(sent_before_the_end, hidden)
    assert [sent for sent, *_ in answers] == [3 if hidden else 0, 0]
    for _, unused, gradients in answers:
        assert unused is None
        assert all(torch.equal(gradient, torch.ones(2, 2)) for gradient in gradients)


def test_buckets_hold_neighbours_from_the_last_to_the_first(monkeypatch):
    monkeypatch.setattr(exchange, "BUCKET_BYTES", 32)
    sizes, kinds = (3, 4, 4, 4, 8), [torch.float32] * 4 + [torch.float64]
    made = [nn.Parameter(torch.zeros(n, dtype=kind)) for n, kind in zip(sizes, kinds, strict=True)]
    found = GradientExchange(made, hidden=True).buckets
    assert [[one.numel() for one in bucket] for bucket in found] == [[8], [4, 4], [4, 3]]
