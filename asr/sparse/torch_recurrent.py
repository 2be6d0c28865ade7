"""`nn.GRU`, `nn.LSTM` and `nn.RNN` on sparse kernels, with all layers, directions and lengths."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from asr.errors import AsrError
from asr.sparse.kernels import GATES, Cell, CellKind, Recurrent
from asr.sparse.torch_layers import SparseLayer, optional_array, to_array, uncompiled
from asr.sparse.weight import AUTO, Options

State = Tensor | tuple[Tensor, Tensor]


class _SparseRecurrent(SparseLayer):
    """What the three types share. Attributes have the names of `nn.RNNBase`."""

    own_arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments that only this type has."""

    def __init__(
        self,
        kind: CellKind,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        options: Options,
    ) -> None:
        gates, directions = GATES[kind] * hidden_size, 1 + bidirectional
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else directions * hidden_size
            for end in ("", "_reverse")[:directions]:
                shapes[f"weight_ih_l{layer}{end}"] = (gates, inputs)
                shapes[f"weight_hh_l{layer}{end}"] = (gates, hidden_size)
                if bias:
                    shapes[f"bias_ih_l{layer}{end}"] = (gates,)
                    shapes[f"bias_hh_l{layer}{end}"] = (gates,)
        super().__init__(shapes, options)
        self.kind: CellKind = kind
        self.mode, self.proj_size = kind.upper(), 0
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first = bias, batch_first
        self.dropout, self.bidirectional = dropout, bidirectional

    @classmethod
    def from_dense(cls, layer: nn.RNNBase, options: Options = AUTO) -> Self:
        """The same layers without the zeros."""
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout")
        given: dict[str, Any] = {
            name: getattr(layer, name) for name in (*names, "bidirectional", *cls.own_arguments)
        }
        return cls(**given, options=options).load(layer)

    def flatten_parameters(self) -> None:
        """Nothing: for models that call it before the layer, as cuDNN wants it."""

    def cell(self, layer: int = 0, reverse: bool = False, backwards: bool | None = None) -> Cell:
        """One direction of one layer for the kernels.

        `reverse` selects the weights; `backwards` is the direction in time, by default the same.
        """
        end = f"_l{layer}{'_reverse' if reverse else ''}"
        zeros = torch.zeros(GATES[self.kind] * self.hidden_size)
        return Cell(
            self.kind,
            self._weights[f"weight_ih{end}"].matrix,
            self._weights[f"weight_hh{end}"].matrix,
            optional_array(getattr(self, f"bias_ih{end}") if self.bias else zeros),
            optional_array(getattr(self, f"bias_hh{end}") if self.bias else zeros),
            reverse if backwards is None else backwards,
        )

    @uncompiled
    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Any]:
        """As the dense layer: a padded, packed or single sequence and its initial state.

        `lengths (batch,)` may replace a packed sequence: outputs beyond them are zero, and the
        reverse direction begins at each sequence's own end. Raises AsrError if gradients are on,
        for dropout in training mode, and for shapes that do not fit.
        """
        if self.training and self.dropout and self.num_layers > 1:
            raise AsrError(f"{type(self).__name__}: dropout is for training; call eval() first")
        if isinstance(input, PackedSequence):
            return self._packed(input, hx, lengths)
        if input.dim() not in (2, 3):
            raise AsrError(f"{type(self).__name__} takes 2 or 3 dimensions, not {input.dim()}")
        single = input.dim() == 2
        x = input[None] if single else input if self.batch_first else input.transpose(0, 1)
        if single and hx is not None:
            hx = tuple(part[:, None] for part in self._state(hx))
        y, state = self._run(x, hx, lengths)
        if single:
            return y[0], _each(state, lambda part: part[:, 0])
        return y if self.batch_first else y.transpose(0, 1).contiguous(), state

    def _packed(self, packed: PackedSequence, hx: Any, lengths: Any) -> tuple[PackedSequence, Any]:
        if lengths is not None:
            raise AsrError("a packed sequence has its own lengths: give no others")
        x, own = pad_packed_sequence(packed, batch_first=True)  # in the order before packing
        y, state = self._run(x, hx, own)
        order = packed.sorted_indices
        if order is not None:
            y, own = y[order], own[order]
        data = pack_padded_sequence(y, own, batch_first=True).data
        again = PackedSequence(data, packed.batch_sizes, order, packed.unsorted_indices)
        return again, state

    def _run(self, x: Tensor, hx: Any, lengths: Tensor | None) -> tuple[Tensor, State]:
        """`x (batch, time, features)` through all layers."""
        y = to_array(self, x)
        given = [to_array(self, part) for part in self._state(hx)]
        self._check_state(given, len(x))
        frames = None if lengths is None else lengths.cpu().numpy()
        threads = min(2, torch.get_num_threads())
        directions = 1 + self.bidirectional
        ends = []
        for layer in range(self.num_layers):
            cells = [self.cell(layer, reverse) for reverse in (False, True)[:directions]]
            part = slice(layer * directions, (layer + 1) * directions)
            start: Any = tuple(state[part] for state in given) if given else None
            start = start[0] if start and self.kind != "lstm" else start
            y, state = Recurrent(cells)(y, frames, start, threads)
            ends.append(state if isinstance(state, tuple) else (state,))
        joined = tuple(
            torch.cat([torch.from_numpy(state) for state in part])
            for part in zip(*ends, strict=True)
        )
        return torch.from_numpy(y), joined[0] if self.kind != "lstm" else (joined[0], joined[1])

    def _state(self, hx: Any) -> tuple[Tensor, ...]:
        """The parts of an initial state: none, h, or h and c in a tuple or a list."""
        parts = () if hx is None else tuple(hx) if isinstance(hx, tuple | list) else (hx,)
        if not all(isinstance(part, Tensor) for part in parts):
            needs = "two tensors, (h, c)" if self.kind == "lstm" else "a tensor"
            found = ", ".join(type(part).__name__ for part in parts)
            raise AsrError(f"the state of this {type(self).__name__} is {needs}, not {found}")
        return parts

    def _check_state(self, given: list[Any], batch: int) -> None:
        parts = 2 if self.kind == "lstm" else 1
        expected = (self.num_layers * (1 + self.bidirectional), batch, self.hidden_size)
        if given and (len(given) != parts or any(state.shape != expected for state in given)):
            raise AsrError(
                f"the state of this {type(self).__name__} is {parts} of {list(expected)}, not "
                f"{[list(state.shape) for state in given]}"
            )


class SparseGRU(_SparseRecurrent):
    """`nn.GRU` on sparse kernels, inference only."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        options: Options = AUTO,
    ) -> None:
        super().__init__(
            *("gru", input_size, hidden_size, num_layers, bias, batch_first, dropout),
            *(bidirectional, options),
        )


class SparseLSTM(_SparseRecurrent):
    """`nn.LSTM` without projection on sparse kernels, inference only."""

    own_arguments = ("proj_size",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        options: Options = AUTO,
    ) -> None:
        if proj_size:
            raise AsrError("a sparse LSTM has no projection: proj_size must be 0")
        super().__init__(
            *("lstm", input_size, hidden_size, num_layers, bias, batch_first, dropout),
            *(bidirectional, options),
        )


class SparseRNN(_SparseRecurrent):
    """`nn.RNN` on sparse kernels, inference only."""

    own_arguments = ("nonlinearity",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        options: Options = AUTO,
    ) -> None:
        kinds: dict[str, CellKind] = {"tanh": "rnn_tanh", "relu": "rnn_relu"}
        if nonlinearity not in kinds:
            raise AsrError(f"nonlinearity {nonlinearity!r}: there are tanh and relu")
        super().__init__(
            *(kinds[nonlinearity], input_size, hidden_size, num_layers, bias, batch_first),
            *(dropout, bidirectional, options),
        )
        self.nonlinearity = nonlinearity


def _each(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return tuple(change(part) for part in state) if isinstance(state, tuple) else change(state)
