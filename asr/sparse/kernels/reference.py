"""The C kernels in numpy: the reference of the tests, and what runs without the C library.

Equations and gate order are those of torch.nn.GRU, LSTM and RNN.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Step = Callable[[Array, Array, tuple[Array, ...]], tuple[Array, ...]]


def product(dense: Array, x: Array, bias: Array | None = None) -> Array:
    """`x (n, columns)` times the transpose of `dense (rows, columns)`, plus a bias `(rows,)`."""
    y = x @ dense.T
    return y if bias is None else y + bias


def sigmoid(x: Array) -> Array:
    """Without overflow at either end."""
    return (0.5 * (1.0 + np.tanh(0.5 * x))).astype(np.float32)


def gru(given: Array, recurrent: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
    """One step of `(n, hidden)`: r, z, n gates of `given` and `recurrent` `(n, 3 hidden)`."""
    (h,) = state
    r_in, z_in, n_in = np.split(given, 3, axis=1)
    r_rec, z_rec, n_rec = np.split(recurrent, 3, axis=1)
    z = sigmoid(z_in + z_rec)
    new = np.tanh(n_in + sigmoid(r_in + r_rec) * n_rec)
    return (new + z * (h - new),)


def lstm(given: Array, recurrent: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
    """One step of `(n, hidden)`: i, f, g, o gates of the sum `(n, 4 hidden)`."""
    i, f, g, o = np.split(given + recurrent, 4, axis=1)
    c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def rnn_tanh(given: Array, recurrent: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
    """One step of `(n, hidden)`."""
    return (np.tanh(given + recurrent),)


def rnn_relu(given: Array, recurrent: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
    """One step of `(n, hidden)`."""
    return (np.maximum(given + recurrent, 0),)


STEPS: dict[str, Step] = {"gru": gru, "lstm": lstm, "rnn_tanh": rnn_tanh, "rnn_relu": rnn_relu}


def direction(
    step: Step,
    recurrent: Callable[[Array], Array],
    given: Array,
    lengths: NDArray[np.int64],
    state: tuple[Array, ...],
    reverse: bool,
) -> tuple[Array, tuple[Array, ...]]:
    """All steps of one direction.

    `given (N, T, gates x hidden)` is the projected input with its bias, `recurrent` the product
    of h `(N, hidden)` with its bias, `state` h (and c) `(N, hidden)`. Returns the outputs
    `(N, T, hidden)`, zero beyond each length, and the state after each utterance's last step.
    """
    hidden = state[0].shape[1]
    frames = given.shape[1]
    outputs = np.zeros((len(given), frames, hidden), np.float32)
    for t in range(frames - 1, -1, -1) if reverse else range(frames):
        live = t < lengths
        if not live.any():
            continue
        new = step(given[:, t], recurrent(state[0]), state)
        state = tuple(
            np.where(live[:, None], after, before) for after, before in zip(new, state, strict=True)
        )
        outputs[:, t] = np.where(live[:, None], state[0], 0)
    return outputs, state
