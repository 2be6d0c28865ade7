"""Recurrent layers for training on a CPU: both directions at once, with hand-written gradients.

torch runs one direction after the other. It records every time step for the backward pass, and
there it computes the gradient of the recurrent weight step by step. Here both directions share the
operations of a step, the weight's gradient is one product over all frames, and the state of a GRU
stays in float32 under bfloat16 autocast. That is 1.1 to 1.3 times as fast in float32 and 1.4 to
2.4 times in bfloat16. Results are those of `nn.GRU` and `nn.RNN` to rounding: the layers remain
these modules, and `run` takes their parameters. `nn.LSTM` is not done here, because torch has a
fused kernel for it that is faster than this loop. Where the zeros of a layer are final, the sparse
kernels of `asr.sparse.torch_training` take the loop's place.

Tensors are `(directions, time, batch, features)` throughout. Time is the order in which a
direction runs: the second direction begins with the last frame of each utterance.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.sparse import torch_training
from asr.sparse.torch_training import Keeps

Cells = Sequence[nn.RNNBase]


class FrameOrder:
    """Where each frame of a padded batch is when both directions run side by side.

    For the backward direction each utterance is reversed within its own length, so that padding
    comes last in both directions:

        forward   a b c d . .      backward   d c b a . .
                  e f . . . .                 f e . . . .

    `reversal` is the index that reverses rows of `(batch * frames)`; it is its own inverse.
    """

    def __init__(self, lengths: Tensor, frames: int) -> None:
        self.batch, self.frames = len(lengths), frames
        time = torch.arange(frames, device=lengths.device)
        end = lengths[:, None]
        self._within = torch.where(time < end, end - 1 - time, time)
        self._utterance = torch.arange(self.batch, device=lengths.device)[:, None]
        self._time = time.expand(self.batch, frames)
        self.reversal = (self._utterance * frames + self._within).flatten()

    def spread(self, directions: int) -> Tensor:
        """For each row of `(directions, time, batch)` its row in `(batch, frames)`: an index."""
        rows = torch.stack([self._time, self._within][:directions])
        return (self._utterance * self.frames + rows).transpose(1, 2).flatten()

    def join(self, directions: int) -> Tensor:
        """For each row of `(batch, frames, directions)` its row in `(directions, time, batch)`.

        The way back from `spread`: both directions in the order of the frames again.
        """
        ahead = self._time * self.batch + self._utterance
        back = (self.frames + self._within) * self.batch + self._utterance
        return torch.stack([ahead, back][:directions], dim=-1).flatten()


def sum_directions(x: Tensor) -> Tensor:
    """Sum over the last but one dimension, of size 1 or 2 (`Tensor.sum` is ten times slower)."""
    return x[..., 0, :] if x.shape[-2] == 1 else x[..., 0, :] + x[..., 1, :]


class _Spread(torch.autograd.Function):
    """`(batch * frames, features)` to `(directions * time * batch, features)`.

    Each frame is read once per direction, so its gradient is the sum over directions. Autograd's
    own gradient of `index_select` would add row by row, which is slow on a CPU; with the inverse
    index it is a gather.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, spread: Tensor, join: Tensor) -> Tensor:
        ctx.save_for_backward(join)
        ctx.shape = x.shape
        return x.index_select(0, spread)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        rows = grad.index_select(0, ctx.saved_tensors[0])
        return sum_directions(rows.view(ctx.shape[0], -1, ctx.shape[1])), None, None


class _Permute(torch.autograd.Function):
    """Rows in another order; the gradient is a gather with the inverse index."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.saved_tensors[0]), None, None


def reverse(x: Tensor, order: FrameOrder) -> Tensor:
    """`x (batch, frames, features)` with each utterance reversed, padding left in place."""
    rows = x.reshape(order.reversal.numel(), -1)
    return cast(Tensor, _Permute.apply(rows, order.reversal, order.reversal)).view(x.shape)


def supports(cells: Cells, x: Tensor) -> bool:
    """Whether to use `run`: for torch's own GRU and RNN cells, on a CPU, where it is faster.

    It is faster where gradients are computed, and for frozen networks under autocast: a teacher
    (GRU 3 x 384, bfloat16) took 70 % of the time of its student's training steps in torch's cells,
    and takes 20 % in `run`. A cell with a hook must be called itself: `torch.nn.utils.prune`, for
    one, computes the weight in a hook.
    """
    if x.device.type != "cpu" or any(
        type(cell) not in (nn.GRU, nn.RNN) or cell._forward_hooks or cell._forward_pre_hooks
        for cell in cells
    ):
        return False
    frozen = not any(cell.weight_hh_l0.requires_grad for cell in cells)
    return torch.is_grad_enabled() or (frozen and torch.is_autocast_enabled("cpu"))


def run(cells: Cells, x: Tensor, order: FrameOrder, keeps: Sequence[Keeps] | None = None) -> Tensor:
    """Run one or two directions of a layer over `x (batch, frames, inputs)`.

    keeps: which weights of each direction are not zero and will not be; the sparse kernels compute
    then, in float32. Returns `(batch, frames, directions, hidden)`, both directions in the order of
    the frames.
    """
    n = len(cells)
    spread, join = order.spread(n), order.join(n)
    rows = cast(Tensor, _Spread.apply(x.reshape(-1, x.shape[-1]), spread, join))
    if keeps is not None:
        states = torch_training.run(rows.view(n, order.frames, order.batch, -1), keeps, cells)
    else:
        states = _dense(cells, rows, order)
    # The inverse of `join`: rows of `(batch, frames, directions)` for `(directions, time, batch)`.
    inverse = spread * n + torch.arange(n, device=x.device).repeat_interleave(spread.numel() // n)
    joined = _Permute.apply(states.reshape(-1, states.shape[-1]), join, inverse)
    return cast(Tensor, joined).view(*x.shape[:2], n, -1)


def _dense(cells: Cells, rows: Tensor, order: FrameOrder) -> Tensor:
    """States `(directions, time, batch, hidden)` for rows `(directions * time * batch, inputs)`."""
    n = len(cells)
    weight_ih, weight_hh, bias_ih, bias_hh = (
        torch.stack([cast(Tensor, getattr(cell, name)) for cell in cells])
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    # The reset gate of a GRU multiplies the recurrent bias too, so that one is added in its loop.
    separate = isinstance(cells[0], nn.GRU)
    bias = bias_ih if separate else bias_ih + bias_hh
    gates = torch.baddbmm(
        bias[:, None], rows.view(n, -1, rows.shape[-1]), weight_ih.transpose(1, 2)
    )
    gates = gates.view(n, order.frames, order.batch, -1)
    if separate:
        return cast(Tensor, _Gru.apply(gates, weight_hh, bias_hh))
    relu = cast(nn.RNN, cells[0]).nonlinearity == "relu"
    return cast(Tensor, _Rnn.apply(gates, weight_hh, relu))


def _product(base: Tensor, x: Tensor, weight: Tensor, out: Tensor) -> None:
    """`out = base + x @ weight` for each direction, by the faster call for the precision."""
    if x.dtype == torch.float32:
        for i in range(len(x)):
            torch.addmm(base[i], x[i], weight[i], out=out[i])
    else:
        torch.baddbmm(base, x, weight, out=out)


def _weight_gradient(grad_gates: Tensor, states: Tensor) -> Tensor:
    """Sum over steps of the outer products of `dL/dgates[t]` and `h[t-1]`, as one product."""
    n, hidden = len(states), states.shape[-1]
    return torch.bmm(
        grad_gates.reshape(n, -1, grad_gates.shape[-1]).transpose(1, 2),
        states.reshape(n, -1, hidden),
    )


class _Rnn(torch.autograd.Function):
    """`h[t] = act(gates[t] + W h[t-1])`, tanh or ReLU.

    Backward, with `dh[t]` the gradient of `h[t]` (its own, and what comes back from step t + 1):

        d[t]    = act'(h[t]) * dh[t]            gradient of gates[t]
        dh[t-1] = grad[t-1] + d[t] W
        dW      = sum over t of d[t] h[t-1]^T

    Both derivatives follow from `h` alone: `h > 0` of the ReLU, `1 - h^2` of the tanh.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, relu: bool) -> Tensor:
        n, time, batch, hidden = gates.shape
        states = gates.new_zeros(n, time + 1, batch, hidden)
        h, a, w = states.unbind(1), gates.unbind(1), weight.to(gates.dtype).transpose(1, 2)
        for t in range(time):
            _product(a[t], h[t], w, out=h[t + 1])
            if relu:
                h[t + 1].relu_()
            else:
                h[t + 1].tanh_()
        ctx.save_for_backward(states, weight)
        ctx.relu = relu
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        states, weight = ctx.saved_tensors
        h, w = states[:, 1:], weight.to(states.dtype)
        slope = (h > 0).to(h.dtype) if ctx.relu else 1 - h * h
        grad_gates = torch.empty_like(slope)
        k, d, g = slope.unbind(1), grad_gates.unbind(1), grad.unbind(1)
        dh = g[-1]
        for t in range(len(g) - 1, -1, -1):
            torch.mul(k[t], dh, out=d[t])
            if t:
                dh = torch.empty_like(d[t])
                _product(g[t - 1], d[t], w, out=dh)
        grad_weight = _weight_gradient(grad_gates, states[:, :-1])
        return grad_gates, grad_weight.to(weight.dtype), None


class _Gru(torch.autograd.Function):
    """Equations and gate order of `nn.GRU`, with `a = gates[t]` and `k = W h[t-1] + b`:

        r = sigmoid(a_r + k_r)      z = sigmoid(a_z + k_z)      c = tanh(a_n + r k_n)
        h[t] = (1 - z) c + z h[t-1]

    Backward, with `dh` the gradient of `h[t]`:

        d_n = dh (1 - z) (1 - c^2)            of a_n; of k_n it is d_n r
        d_r = d_n k_n r (1 - r)               of a_r and k_r
        d_z = dh (h[t-1] - c) z (1 - z)       of a_z and k_z
        dh[t-1] = grad[t-1] + dh z + (d_r, d_z, d_n r) W

    All factors of `dh` are known before the loop (`slope`), which leaves it one product and two
    cheap operations for each step.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        n, time, batch, rows = gates.shape
        hidden = rows // 3
        states = gates.new_zeros(n, time + 1, batch, hidden)
        new = gates.new_empty(n, time, batch, hidden)
        saved = torch.empty_like(gates)  # r, z and k_n of each step, for the backward pass
        w, b = weight.to(gates.dtype).transpose(1, 2), bias.to(gates.dtype)[:, None]
        b = b.expand(n, batch, rows)
        a_gate, a_new = (part.unbind(1) for part in gates.split([2 * hidden, hidden], dim=-1))
        k_gate, k_new = (part.unbind(1) for part in saved.split([2 * hidden, hidden], dim=-1))
        r, z = (part.unbind(1) for part in saved[..., : 2 * hidden].chunk(2, dim=-1))
        k, h, c = saved.unbind(1), states.unbind(1), new.unbind(1)
        # In bfloat16 the rounding of every step would add up over an utterance. So the state that
        # goes on is float32, and only the copy that is multiplied is rounded.
        wide = torch.promote_types(gates.dtype, torch.float32)
        exact = states[:, 0].to(wide)
        for t in range(time):
            _product(b, h[t], w, out=k[t])
            k_gate[t].add_(a_gate[t]).sigmoid_()
            torch.addcmul(a_new[t], r[t], k_new[t], out=c[t]).tanh_()
            exact = torch.lerp(c[t].to(wide), exact, z[t].to(wide))
            h[t + 1].copy_(exact)
        ctx.save_for_backward(states, saved, new, weight)
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, saved, new, weight = ctx.saved_tensors
        n, time, batch, hidden = new.shape
        w = weight.to(new.dtype)
        r, z, recurrent = saved.chunk(3, dim=-1)
        to_new = (1 - z) * (1 - new * new)
        slope = new.new_empty(n, time, batch, 3, hidden)  # d_r, d_z and d_n r, each over dh
        s_reset, s_update, s_new = slope.unbind(3)
        torch.mul(to_new, r, out=s_new)
        torch.mul(s_new * recurrent, 1 - r, out=s_reset)
        torch.mul((states[:, :-1] - new) * z, 1 - z, out=s_update)
        rows, all_dh = torch.empty_like(slope), torch.empty_like(new)
        k, d, g, update = slope.unbind(1), rows.unbind(1), grad.unbind(1), z.unbind(1)
        flat, each_dh = rows.view(n, time, batch, 3 * hidden).unbind(1), all_dh.unbind(1)
        dh = g[-1]
        for t in range(time - 1, -1, -1):
            each_dh[t].copy_(dh)
            torch.mul(k[t], dh.unsqueeze(2), out=d[t])
            if t:
                base = torch.addcmul(g[t - 1], dh, update[t])
                dh = torch.empty_like(base)
                _product(base, flat[t], w, out=dh)
        grad_gates = rows.view(n, time, batch, 3 * hidden)
        grad_weight = _weight_gradient(grad_gates, states[:, :-1]).to(weight.dtype)
        grad_bias = grad_gates.sum((1, 2), dtype=weight.dtype)
        # The gradients of weight and bias are done. Those of the inputs differ in the new gate
        # alone, d_n in place of d_n r, so they may take the same memory.
        torch.mul(all_dh, to_new, out=rows[..., 2, :])
        return grad_gates, grad_weight, grad_bias
