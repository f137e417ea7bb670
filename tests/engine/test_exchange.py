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


def train_and_watch(folder, part_bytes, compiles):
    """By torch's usual operations, which need no compiler: what was learnt, in how many parts, and how
    many of 7 gradients were still to come when each piece of the first step was sent."""
    parts, missing = [], []
    as_usual, send = registry.lookup_backend("aot_eager"), GradientExchange._send

    def compile_part(graph, inputs):
        parts.append(graph)
        return as_usual(graph, inputs)

    def note(sums):
        missing.append(sum(sums._missing))
        send(sums)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "BUCKET_BYTES", part_bytes)
        patch.setattr(exchange, "BUCKET_BYTES", 1)
        patch.setattr(GradientExchange, "_send", note)
        patch.setattr(
            registry, "lookup_backend", lambda asked: compile_part if asked == "inductor" else asked
        )
        return train(folder, {"micro_batch": 1}, norm=True, compile=compiles)[0], len(parts), missing[:7]


def test_a_training_sends_the_last_layers_while_the_first_are_still_to_come(tmp_path):
    """As a whole, a compiled backbone has them all when its backward ends; in parts, one after the other."""
    learnt = {}
    for name, part_bytes, compiles, expected, both in (
        ("eager", 1, False, 0, 5),  # when both of the last layer's are sent, all others are still to come
        ("whole", 2**30, True, 1, 3),
        ("parts", 1, True, 3, 5),
    ):
        (tmp_path / name).mkdir()
        ranks = run_together(train_and_watch, tmp_path / name, part_bytes, compiles)
        assert [(parts, missing[1]) for _, parts, missing in ranks] == [(expected, both)] * 2
        learnt[name] = [state for state, *_ in ranks]
    for name in ("whole", "parts"):
        for state, of_eager in zip(learnt[name], learnt["eager"], strict=True):
            close(state, of_eager, rtol=1e-9, atol=1e-12)


def sent_in_two_steps():
    """Pieces that are on their way at the end of each backward; the last parameter is not used."""
    layers = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(3)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exchange, "BUCKET_BYTES", 1)
        exchanged = GradientExchange([*layers.parameters(), nn.Parameter(torch.ones(2))], hidden=True)
    sent = []
    for _ in range(2):
        layers.zero_grad()
        exchanged.begin()
        nn.Sequential(*layers)(torch.ones(1, 2)).sum().backward()
        sent.append(len(exchanged._sums))
        exchanged.finish()
    return sent


def test_what_had_no_gradient_in_the_step_before_holds_nothing_up():
    assert run_together(sent_in_two_steps) == [[0, 3]] * 2


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
