"""A recurrent layer of the kernels equals torch's, for every cell, batch and length."""

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.errors import AsrError
from asr.sparse.csr import BANK, BLOCK, from_dense
from asr.sparse.kernels import GATES, Cell, Recurrent, levels, library, prepare

HERE = levels() if library() else ("plain",)
CLASSES = {
    "gru": torch.nn.GRU,
    "lstm": torch.nn.LSTM,
    "rnn_tanh": torch.nn.RNN,
    "rnn_relu": torch.nn.RNN,
}
BEST = {"plain": "csr", "avx2": "perm8", "avx2vnni": "perm8", "avx512f": "perm32"}
BEST |= {"neon": "csr", "neondot": "perm8"}
CASES = [
    (kind, kernel, name)
    for kind in GATES
    for kernel, name in (
        [("numpy", "plain"), *[(BEST.get(name, "perm16"), name) for name in HERE]]
        if library()
        else [("numpy", "plain")]
    )
]
TOLERANCE = {"perm8": 1.5e-2, "perm16": 4e-3, "block16-fp16": 1e-3, "block16-int8": 1.5e-2}


def pruned_layer(kind, inputs, hidden, directions=2, pattern="element", keep=0.25, seed=0):
    """A torch layer with zeros in its matrices."""
    torch.manual_seed(seed)
    extra = {"nonlinearity": kind.removeprefix("rnn_")} if kind.startswith("rnn") else {}
    layer = CLASSES[kind](inputs, hidden, batch_first=True, bidirectional=directions == 2, **extra)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, tensor in layer.named_parameters():
            if name.startswith("weight"):
                tensor *= torch.from_numpy(mask(pattern, tuple(tensor.shape), keep, generator))
    return layer.eval()


def mask(pattern, shape, keep, generator):
    rows, columns = shape
    if pattern == "block":
        blocks = generator.random((-(-rows // BLOCK), columns)) < keep
        return blocks.repeat(BLOCK, axis=0)[:rows].astype(np.float32)
    if pattern == "element":
        return (generator.random(shape) < keep).astype(np.float32)
    found = np.zeros(shape, np.float32)
    for first in range(0, columns, BANK):
        width = min(BANK, columns - first)
        order = np.argsort(generator.random((rows, width)), axis=1)
        chosen = order[:, : max(1, round(keep * width))]
        np.put_along_axis(found[:, first : first + width], chosen, 1, axis=1)
    return found


def ours(layer, kind, combine="concat", **options):
    tensors = {name: tensor.detach().numpy() for name, tensor in layer.named_parameters()}
    cells = [
        Cell(
            kind,
            prepare(from_dense(tensors["weight_ih_l0" + end]), **options),
            prepare(from_dense(tensors["weight_hh_l0" + end]), **options),
            tensors["bias_ih_l0" + end],
            tensors["bias_hh_l0" + end],
            bool(end),
        )
        for end in ("", "_reverse")[: 2 if layer.bidirectional else 1]
    ]
    return Recurrent(cells, combine)


def by_torch(layer, x, lengths, state=None):
    given = None
    if state is not None:
        parts = tuple(torch.from_numpy(part) for part in state)
        given = parts if len(parts) == 2 else parts[0]
    packed = pack_padded_sequence(
        torch.from_numpy(x), torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
    )
    with torch.inference_mode():
        outputs, after = layer(packed, given)
        outputs = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0]
    after = after if isinstance(after, tuple) else (after,)
    return outputs.numpy(), tuple(part.numpy() for part in after)


def compare(layer, kind, run, batch, frames, tolerance, lengths=None, threads=2, seed=0):
    generator = np.random.default_rng(seed)
    inputs, hidden = layer.input_size, layer.hidden_size
    x = generator.normal(0, 1, (batch, frames, inputs)).astype(np.float32)
    directions = 2 if layer.bidirectional else 1
    state = tuple(
        generator.uniform(-1, 1, (directions, batch, hidden)).astype(np.float32)
        for _ in range(2 if kind == "lstm" else 1)
    )
    found = lengths if lengths is not None else np.full(batch, frames)
    expected, after = by_torch(layer, x, found, state)
    given = state if len(state) == 2 else state[0]
    before = [part.copy() for part in state]
    outputs, end = run(x, lengths, given, threads)
    assert np.abs(outputs - expected).max() <= tolerance
    for mine, theirs in zip(end if isinstance(end, tuple) else (end,), after, strict=True):
        assert np.abs(mine - theirs).max() <= tolerance
    for n, length in enumerate(found):
        assert (outputs[n, length:] == 0).all()
    assert all(np.array_equal(a, b) for a, b in zip(before, state, strict=True))


@pytest.mark.parametrize(("kind", "kernel", "name"), CASES)
def test_a_layer_equals_torch(kind, kernel, name):
    tolerance = TOLERANCE.get(kernel, 2e-6)
    for inputs, hidden in ((24, 32), (19, 37)):
        layer = pruned_layer(kind, inputs, hidden)
        run = ours(layer, kind, kernel=kernel, level=name)
        compare(layer, kind, run, 3, 7, tolerance, np.array([4, 7, 1]))
        compare(layer, kind, run, 1, 7, tolerance)


@pytest.mark.parametrize("kind", list(GATES))
@pytest.mark.parametrize("batch", [1, 2, 5, 8, 9, 17])
def test_any_number_of_utterances_of_any_lengths(kind, batch):
    layer = pruned_layer(kind, 20, 24)
    run = ours(layer, kind, exact=True)
    lengths = np.random.default_rng(batch).integers(1, 40, batch)
    lengths[-1] = 40
    compare(layer, kind, run, batch, 40, 2e-6, lengths)
    compare(layer, kind, run, batch, 40, 2e-6, lengths, threads=1)


@pytest.mark.parametrize("frames", [1, 2, 31, 32, 33, 70])
def test_any_number_of_frames(frames):
    layer = pruned_layer("gru", 20, 24)
    run = ours(layer, "gru", exact=True)
    compare(layer, "gru", run, 1, frames, 2e-6)
    compare(layer, "gru", run, 3, frames, 2e-6)


@pytest.mark.parametrize("pattern", ["element", "bank", "block"])
@pytest.mark.parametrize("values", ["fp32", "fp16", "int8"])
def test_patterns_and_precisions(pattern, values):
    layer = pruned_layer("gru", 64, 96, pattern=pattern)
    run = ours(layer, "gru", values=values)
    kernel = run.cells[0].weight_hh.kernel
    compare(layer, "gru", run, 3, 30, TOLERANCE.get(kernel, 2e-6), np.array([30, 3, 17]))


@pytest.mark.parametrize("kind", list(GATES))
def test_one_direction_dense_and_empty_matrices(kind):
    for keep in (0.0, 1.0):
        layer = pruned_layer(kind, 17, 20, directions=1, keep=keep)
        compare(layer, kind, ours(layer, kind, exact=True), 2, 9, 2e-6, np.array([9, 5]))


def test_directions_are_added_where_asked():
    layer = pruned_layer("gru", 20, 24)
    x = np.random.default_rng(0).normal(0, 1, (2, 9, 20)).astype(np.float32)
    lengths = np.array([9, 4])
    beside, state = ours(layer, "gru", exact=True)(x, lengths)
    added, same = ours(layer, "gru", "sum", exact=True)(x, lengths)
    assert np.array_equal(added, beside[:, :, :24] + beside[:, :, 24:])
    assert np.array_equal(state, same)
    alone = pruned_layer("gru", 20, 24, directions=1)
    assert ours(alone, "gru", "sum")(x)[0].shape == (2, 9, 24)


def test_a_layer_of_numpy_and_c_matrices_and_one_of_c_agree():
    layer = pruned_layer("lstm", 20, 24)
    run = ours(layer, "lstm", exact=True)
    slow = Recurrent([replace(cell, weight_ih=as_numpy(layer, cell)) for cell in run.cells])
    x = np.random.default_rng(0).normal(0, 1, (2, 9, 20)).astype(np.float32)
    assert np.abs(slow(x)[0] - run(x)[0]).max() < 2e-6


def as_numpy(layer, cell):
    end = "_reverse" if cell.reverse else ""
    weights = getattr(layer, f"weight_ih_l0{end}").detach().numpy()
    return prepare(from_dense(weights), kernel="numpy")


def test_a_length_of_zero_does_not_change_the_state_and_gives_zeros():
    run = ours(pruned_layer("lstm", 20, 24), "lstm")
    x = np.ones((3, 5, 20), np.float32)
    h, c = (np.full((2, 3, 24), value, np.float32) for value in (0.25, 0.5))
    outputs, (h_after, c_after) = run(x, np.array([5, 0, 2]), (h, c))
    assert (outputs[1] == 0).all()
    assert np.array_equal(h_after[:, 1], h[:, 1])
    assert np.array_equal(c_after[:, 1], c[:, 1])
    nothing, state = run(np.ones((0, 5, 20), np.float32))
    assert nothing.shape == (0, 5, 48)
    assert state[0].shape == (2, 0, 24)
    assert run(np.ones((2, 0, 20), np.float32))[0].shape == (2, 0, 48)


@pytest.mark.parametrize("kind", list(GATES))
@pytest.mark.parametrize("name", HERE)
def test_activations_are_torchs_to_a_millionth(kind, name):
    hidden = 33
    zero = np.zeros((GATES[kind] * hidden, hidden), np.float32)
    layer = CLASSES[kind](
        1,
        hidden,
        batch_first=True,
        **({"nonlinearity": kind.removeprefix("rnn_")} if kind.startswith("rnn") else {}),
    )
    generator = np.random.default_rng(0)
    weights = generator.uniform(-1, 1, (GATES[kind] * hidden, 1)).astype(np.float32)
    bias = generator.uniform(-1, 1, GATES[kind] * hidden).astype(np.float32)
    state = {"weight_ih_l0": weights, "weight_hh_l0": zero, "bias_ih_l0": bias, "bias_hh_l0": bias}
    layer.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    options = {"level": name, "exact": True} if library() else {}
    matrices = [prepare(from_dense(weight), **options) for weight in (weights, zero)]
    run = Recurrent([Cell(kind, *matrices, bias, bias)])
    for scale in (1.0, 30.0, 1000.0):
        x = (scale * np.linspace(-1, 1, 400)).astype(np.float32).reshape(400, 1, 1)
        with torch.inference_mode():
            expected = layer(torch.from_numpy(x))[0].numpy()
        outputs = run(x)[0]
        assert np.abs(outputs - expected).max() <= 1e-6 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("kind", list(GATES))
def test_a_nan_in_the_input_is_in_all_later_outputs(kind):
    layer = pruned_layer(kind, 20, 24, directions=1, keep=1.0)
    x = np.ones((2, 6, 20), np.float32)
    x[0, 3, 5] = np.nan
    outputs = ours(layer, kind)(x)[0]
    assert np.isfinite(outputs[0, :3]).all()
    assert np.isnan(outputs[0, 3:]).any(axis=1).all()
    assert np.isfinite(outputs[1]).all()


def test_several_threads_use_one_layer():
    layer = pruned_layer("gru", 20, 24)
    run = ours(layer, "gru")
    inputs = [
        np.random.default_rng(n).normal(0, 1, (3, 20, 20)).astype(np.float32) for n in range(4)
    ]
    expected = [run(x)[0] for x in inputs]
    wrong = []

    def work(n: int) -> None:
        for _ in range(20):
            if not np.array_equal(run(inputs[n])[0], expected[n]):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FORKED = """
import os, signal
import numpy as np
from asr.sparse.kernels import Cell, Recurrent, prepare
from asr.sparse.csr import from_dense

matrix, bias = prepare(from_dense(np.eye(48, 16, dtype=np.float32))), np.zeros(48, np.float32)
layer = Recurrent([Cell("gru", matrix, matrix, bias, bias, reverse) for reverse in (False, True)])
x = np.ones((2, 9, 16), np.float32)
expected, _ = layer(x)
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(0 if np.array_equal(layer(x)[0], expected) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_starts_its_own_threads():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED], check=True, timeout=60)


def test_what_does_not_fit_is_refused():
    layer = pruned_layer("gru", 20, 24)
    run = ours(layer, "gru")
    x = np.ones((2, 5, 20), np.float32)
    for lengths in (np.array([5]), np.array([5, 6]), np.array([5, -1]), np.array([5.0, 2.0])):
        with pytest.raises(AsrError, match="length"):
            run(x, lengths)
    with pytest.raises(AsrError, match="input is"):
        run(np.ones((2, 5, 21), np.float32))
    with pytest.raises(AsrError, match="state is"):
        run(x, None, np.zeros((2, 2, 23), np.float32))
    with pytest.raises(AsrError, match="1 parts, not 2"):
        run(x, None, (np.zeros((2, 2, 24), np.float32),) * 2)
    with pytest.raises(AsrError, match="threads = 0"):
        run(x, threads=0)
    cell = run.cells[0]
    with pytest.raises(AsrError, match="one or two directions"):
        Recurrent([cell] * 3)
    with pytest.raises(AsrError, match="'mean'"):
        Recurrent([cell], "mean")  # type: ignore[arg-type]
    with pytest.raises(AsrError, match="differ"):
        Recurrent([cell, ours(pruned_layer("gru", 20, 32), "gru").cells[0]])
    with pytest.raises(AsrError, match="'qrnn'"):
        replace(cell, kind="qrnn")
    with pytest.raises(AsrError, match="72 rows, not 24"):
        replace(cell, kind="rnn_relu")
    with pytest.raises(AsrError, match="bias_hh is"):
        replace(cell, bias_hh=np.zeros(5, np.float32))
