"""The ramp neuron inside layers: a convolution equals the dense layer its patches make, with any feedback; what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aplysia.errors import RecipeError
from aplysia.nets.zoo import build
from aplysia.neurons.ramp import Ramp
from aplysia.ops.geometry import Conv2d, Dense
from aplysia.ops.synapse import Connection

NEURON = Ramp(threshold=0.2, max_gain=None)


def unrolled(weight: torch.Tensor, geometry: Conv2d, shape: tuple[int, int, int]) -> torch.Tensor:
    """The dense matrix of a convolution, column by column: what it answers to each unit image."""
    size = shape[0] * shape[1] * shape[2]
    images = torch.eye(size, dtype=weight.dtype).view(size, *shape)
    answers = F.conv2d(images, weight, stride=geometry.stride, padding=geometry.padding, groups=geometry.groups)
    return answers.flatten(1).t().contiguous()


@pytest.mark.parametrize(
    ("geometry", "channels", "weight_shape"),
    [
        (Conv2d(1, 1), 2, (5, 2, 3, 3)),
        (Conv2d(2, 0), 2, (4, 2, 2, 2)),
        (Conv2d(1, 1, 2), 4, (6, 2, 3, 3)),
    ],
    ids=["padded", "stride", "groups"],
)
def test_a_convolution_equals_the_dense_layer_it_stands_for(
    geometry: Conv2d, channels: int, weight_shape: tuple[int, ...]
) -> None:
    source = torch.Generator().manual_seed(0)
    shape = (channels, 6, 6)
    x = torch.rand(3, *shape, generator=source).double() * (torch.rand(3, *shape, generator=source) < 0.6)
    weight = (0.1 + 0.3 * torch.randn(weight_shape, generator=source)).double()
    feedback = torch.randn(weight_shape, generator=source).double()
    ours_x, ours_w = x.clone().requires_grad_(), weight.clone().requires_grad_()
    ours = NEURON.respond((ours_x,), Connection(ours_w, None, geometry, feedback))
    fired = float((ours > 0).double().mean())
    assert 0.2 < fired < 0.98

    plain_x, plain_w = x.clone().requires_grad_(), weight.clone().requires_grad_()
    matrix, back = unrolled(plain_w, geometry, shape), unrolled(feedback, geometry, shape)
    dense = NEURON.respond((plain_x.flatten(1),), Connection(matrix, None, Dense(), back))
    torch.testing.assert_close(ours.flatten(1), dense, rtol=1e-10, atol=1e-12)

    error = torch.randn(ours.shape, generator=source).double()
    ours.backward(error)
    dense.backward(error.flatten(1))
    torch.testing.assert_close(ours_x.grad, plain_x.grad, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(ours_w.grad, plain_w.grad, rtol=1e-9, atol=1e-11)
    assert ours_x.grad is not None
    assert ours_x.grad.abs().max() > 0


@pytest.mark.parametrize(("text", "bias"), [("4C3-A2-F10", False), ("4C3-P2-8C3-F10", True)])
def test_what_is_not_defined_for_it_is_refused(text: str, bias: bool) -> None:
    text = text.replace("A2-F10", "A2-4C3-F10")
    with pytest.raises(RecipeError, match="average pool" if "A2" in text else "bias"):
        build(text, (1, 8, 8), neuron=Ramp(), bias=bias)
