"""Dot products that temperatures divide."""

import torch

from vssl.nn.contrast import dot_products


def test_cosines_are_not_rounded_to_16_bits():
    one, other = torch.randn(4, 128), torch.randn(6, 128)
    expected = (one[:, None] * other).sum(dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        found = dot_products(one, other)
        assert (one @ other.T).dtype == torch.bfloat16
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
