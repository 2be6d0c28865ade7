"""Convolutions without torch equal torch's for every instruction set, strip, edge and kernel."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from asr.model import native_convolution as module
from asr.model.native_convolution import STRIP, Convolution, ConvolutionStack, sparse_pays
from asr.sparse.kernels import LEVELS, level, levels, library


class Layer(NamedTuple):
    """Channels out, channels in, kernel and stride."""

    channels: int
    inputs: int
    kernel: tuple[int, int] = (5, 5)
    stride: tuple[int, int] = (2, 2)


SHAPES = {
    "default": [Layer(32, 1, (11, 5)), Layer(32, 32)],
    "paper": [Layer(32, 1, (41, 11)), Layer(32, 32, (21, 11), (2, 1))],
    "odd channels": [Layer(5, 1, (3, 7)), Layer(19, 5, (1, 3), (1, 2)), Layer(50, 19, (3, 1))],
    "one by one": [Layer(1, 1, (1, 1), (1, 1))],
    "wide strides": [Layer(16, 1, (3, 3), (3, 4)), Layer(33, 16, (5, 9), (2, 3))],
    "kernel above the bands": [Layer(4, 1, (41, 11), (8, 2)), Layer(7, 4, (21, 3), (1, 1))],
}
LEVELS_HERE = levels() if library() else ()


def draw(layers: list[Layer], zeros: float = 0.0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases; most outputs are between 0 and 20, some beyond."""
    random = np.random.default_rng(2)
    drawn = []
    for layer in layers:
        weight = random.standard_normal((layer.channels, layer.inputs, *layer.kernel))
        weight *= 4 / np.sqrt(np.prod(weight.shape[1:]) * (1 - zeros))
        weight[random.random(weight.shape) < zeros] = 0
        drawn.append((weight.astype(np.float32), random.normal(0.5, 1, layer.channels)))
    return [(weight, bias.astype(np.float32)) for weight, bias in drawn]


def torch_convolutions(
    layers: list[Layer], weights: list[tuple[np.ndarray, np.ndarray]], features: np.ndarray
) -> np.ndarray:
    x = torch.from_numpy(features).T[None, None]
    for layer, (weight, bias) in zip(layers, weights, strict=True):
        padding = ((layer.kernel[0] - 1) // 2, (layer.kernel[1] - 1) // 2)
        w, b = torch.from_numpy(weight), torch.from_numpy(bias)
        x = F.hardtanh(F.conv2d(x, w, b, layer.stride, padding), 0.0, 20.0)
    assert 0.1 < (x > 0).float().mean() < 1.0
    return x[0].flatten(0, 1).T.numpy()  # channel by channel, its bands side by side


def run(stack: ConvolutionStack, features: np.ndarray, outputs: int) -> np.ndarray:
    found = np.full((stack.lengths(len(features))[-1], outputs), np.nan, np.float32)
    for first, last in stack.strips(len(features)):
        stack.strip(features, first, last, found[first:last])
    return found


def stack_of(
    layers: list[Layer],
    weights: list[tuple[np.ndarray, np.ndarray]],
    used: str = LEVELS[0],
    sparse: bool = False,
    exact: bool = True,
) -> ConvolutionStack:
    return ConvolutionStack(
        [
            Convolution(weight, bias, layer.stride, LEVELS.index(used), exact, i == 0, sparse)
            for i, (layer, (weight, bias)) in enumerate(zip(layers, weights, strict=True))
        ]
    )


def check(stack: ConvolutionStack, layers: list[Layer], weights, frames: int, atol: float) -> None:
    features = np.random.default_rng(3).standard_normal((frames, 80)).astype(np.float32)
    expected = torch_convolutions(layers, weights, features)
    found = run(stack, features, expected.shape[1])
    np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


@pytest.mark.parametrize("used", LEVELS_HERE)
@pytest.mark.parametrize("shape", SHAPES)
def test_dense_convolutions_are_torch_s(shape: str, used: str) -> None:
    weights = draw(SHAPES[shape])
    stack = stack_of(SHAPES[shape], weights, used)
    assert {layer.kernel for layer in stack.layers} == {f"dense, {used}"}
    for frames in (1, 2, 7, 100):
        check(stack, SHAPES[shape], weights, frames, 2e-4)


ROUNDING = [name for name in LEVELS_HERE if "avx" in name]


@pytest.mark.parametrize("used", ROUNDING)
@pytest.mark.parametrize("shape", SHAPES)
def test_rounded_convolutions_are_nearly_torch_s(shape: str, used: str) -> None:
    weights = draw(SHAPES[shape])
    stack = stack_of(SHAPES[shape], weights, used, exact=False)
    assert {layer.kernel for layer in stack.layers} == {f"dense int16, {used}"}
    for frames in (1, 2, 7, 100):
        check(stack, SHAPES[shape], weights, frames, 0.3)  # of values up to 20


@pytest.mark.parametrize("shape", SHAPES)
def test_every_instruction_set_rounds_alike(shape: str) -> None:
    weights = draw(SHAPES[shape])
    features = np.random.default_rng(3).standard_normal((61, 80)).astype(np.float32)
    outputs = torch_convolutions(SHAPES[shape], weights, features).shape[1]
    stacks = [stack_of(SHAPES[shape], weights, used, exact=False) for used in ROUNDING]
    for stack in stacks[1:]:
        expected = run(stacks[0], features, outputs)
        np.testing.assert_array_equal(run(stack, features, outputs), expected)


@pytest.mark.parametrize("used", ROUNDING)
@pytest.mark.parametrize("taps", [1, 2, 3, 8])
def test_rounded_sums_are_those_of_whole_numbers(taps: int, used: str) -> None:
    layer = Layer(17, 1, (1, taps), (1, 1))
    weight = np.random.default_rng(taps).standard_normal((17, 1, 1, taps)).astype(np.float32)
    features = np.random.default_rng(4).standard_normal((40, 3)).astype(np.float32)
    found = run(
        stack_of([layer], [(weight, np.zeros(17, np.float32))], used, exact=False), features, 51
    )
    scale = ((2**31 - 1) / 32767 - taps / 2) / np.abs(weight).sum(axis=(1, 2, 3), dtype=np.float64)
    scale = np.minimum(scale, 32767 / np.abs(weight).max(axis=(1, 2, 3)))
    whole = np.rint(weight[:, 0, 0] * scale[:, None]).astype(int)
    x = np.pad(np.rint(features * 1024).astype(int), (((taps - 1) // 2, taps // 2), (0, 0)))
    sums = sum(whole[:, t, None, None] * x[t : t + 40].T for t in range(taps))
    expected = np.clip(sums / (scale * 1024)[:, None, None], 0, 20).reshape(51, 40).T
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("used", ROUNDING)
def test_the_largest_rounded_sums_fit_their_integers(used: str) -> None:
    layers = [Layer(3, 1, (5, 5)), Layer(4, 3, (5, 5))]
    weights = [
        (np.full((3, 1, 5, 5), 7.0, np.float32), np.zeros(3, np.float32)),
        (np.full((4, 3, 5, 5), 0.01, np.float32), np.zeros(4, np.float32)),
    ]
    weights[1][0][3] *= -1
    features = np.full((90, 80), 1e30, np.float32)  # rounded to 32
    expected = torch_convolutions(layers, weights, np.full_like(features, 32.0))
    found = run(stack_of(layers, weights, used, exact=False), features, expected.shape[1])
    np.testing.assert_allclose(found, expected, atol=0.02, rtol=0)


@pytest.mark.skipif(not ROUNDING, reason="the processor has no AVX2")
def test_a_sparse_product_may_stand_between_rounded_convolutions() -> None:
    layers = [Layer(32, 1, (11, 5)), Layer(32, 32), Layer(16, 32, (3, 3), (1, 1))]
    weights = draw(layers)
    convolutions = [
        Convolution(w, b, layer.stride, level(), first=i == 0, sparse=i == 1)
        for i, (layer, (w, b)) in enumerate(zip(layers, weights, strict=True))
    ]
    assert [layer.rounded for layer in convolutions] == [True, False, True]
    check(ConvolutionStack(convolutions), layers, weights, 100, 0.15)


@pytest.mark.parametrize("frames", [STRIP * 4 - 3, STRIP * 4, STRIP * 4 + 1, STRIP * 9 + 5])
def test_strips_of_a_convolution_join_without_a_seam(frames: int) -> None:
    layers, weights = SHAPES["default"], draw(SHAPES["default"])
    stack = stack_of(layers, weights, LEVELS[level()])
    assert len(stack.strips(frames)) == math.ceil(math.ceil(frames / 4) / STRIP)
    check(stack, layers, weights, frames, 2e-4)


@pytest.mark.parametrize("used", LEVELS_HERE)
@pytest.mark.parametrize("shape", ["default", "odd channels", "kernel above the bands"])
def test_pruned_convolutions_are_sparse_products(shape: str, used: str) -> None:
    weights = draw(SHAPES[shape], zeros=0.9)
    exact = stack_of(SHAPES[shape], weights, used, sparse=True)
    rounded = stack_of(SHAPES[shape], weights, used, sparse=True, exact=False)
    assert not any("dense" in layer.kernel for layer in exact.layers)
    for frames in (1, 90):
        check(exact, SHAPES[shape], weights, frames, 5e-4)
        check(rounded, SHAPES[shape], weights, frames, 0.3)  # of values up to 20


@pytest.mark.parametrize("shape", SHAPES)
def test_without_the_c_library_numpy_does_the_same(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "library", lambda: None)
    weights = draw(SHAPES[shape])
    stack = stack_of(SHAPES[shape], weights)
    assert {layer.kernel for layer in stack.layers} == {"dense, numpy"}
    for frames in (1, 50):
        check(stack, SHAPES[shape], weights, frames, 2e-4)


def test_outputs_are_clipped_at_20_and_never_below_0() -> None:
    layers = [Layer(3, 1, (1, 1), (1, 1))]
    weight = np.array([100.0, -100.0, 1.0], np.float32).reshape(3, 1, 1, 1)
    for sparse in (False, True):
        stack = stack_of(layers, [(weight, np.zeros(3, np.float32))], sparse=sparse)
        found = run(stack, np.ones((5, 80), np.float32), 240)
        np.testing.assert_array_equal(found.reshape(5, 3, 80)[0, :, 0], [20.0, 0.0, 1.0])


def test_a_pruned_layer_is_a_sparse_product_where_that_pays() -> None:
    layers = SHAPES["default"]
    for zeros in (0.0, 0.95):
        stack = stack_of(layers, draw(layers, zeros), LEVELS[level()], sparse=None)  # type: ignore[arg-type]
        first, second = (layer.kernel for layer in stack.layers)
        assert first.startswith("dense")  # 55 taps: never
        assert second.startswith("dense") != sparse_pays(zeros, 800)
    assert not sparse_pays(0.0, 800)
    assert sparse_pays(0.95, 800) == (library() is not None)
