"""One recurrent layer on a GPU: torch.sparse CSR, which is cuSPARSE there, against dense torch.

    python recipes/benchmarks/gpu.py [--quick] [--again]

A bidirectional GRU layer of as many inputs as hidden units over 250 frames, N utterances at once,
90.6 % zeros: cuDNN in fp32 and bfloat16, which multiplies the zeros too, against `CsrGRU`, which
does not. The paper used cuSPARSE as well. Each call is synchronised before the clock stops. Without
a GPU nothing is timed and the record says "not run"; `tests/sparse/test_cuda.py` checks the same
layers against dense ones on the CPU.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lib.script import Script, finish, rows, show, start
from lib.tables import gpu_display
from lib.weights import keep
from torch import Tensor, nn

from asr.sparse.cuda import CsrGRU
from asr.sparse.weight import Options

SPARSITY = 0.90625
SIZES = (512, 800, 1760)
COLUMNS = (1, 8, 32)
FRAMES = 250
NO_GPU = "torch finds no CUDA GPU on this machine"


def pruned(hidden: int) -> nn.GRU:
    """A random layer, 90.6 % of each matrix zero."""
    torch.manual_seed(1)
    layer = nn.GRU(hidden, hidden, bidirectional=True, batch_first=True).eval()
    with torch.no_grad():
        for tensor in layer.parameters():
            if tensor.dim() == 2:
                tensor.mul_(torch.from_numpy(keep(tensor.numpy(), "element", SPARSITY)))
    return layer


def synchronised(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    """A call that returns when the GPU has finished."""

    def call() -> Tensor:
        with torch.inference_mode():
            y: Tensor = layer(x)[0]
        torch.cuda.synchronize()
        return y

    return call


def measure(script: Script, hidden: int, columns: int) -> None:
    """Time one size and number of utterances."""
    key = f"gru-{hidden}-n{columns}"
    if script.done(key):
        return
    dense = pruned(hidden)
    sparse = CsrGRU.from_dense(dense, Options(device="cuda"))
    x = torch.randn(columns, FRAMES // (10 if script.quick else 1), hidden)
    with torch.inference_mode():
        expected = dense(x)[0]
    on_gpu = x.cuda()
    calls = {
        "torch fp32": synchronised(copy.deepcopy(dense).cuda(), on_gpu),
        "torch bf16": synchronised(copy.deepcopy(dense).cuda().bfloat16(), on_gpu.bfloat16()),
        "torch.sparse CSR": synchronised(sparse, on_gpu),
    }
    details: dict[str, dict[str, Any]] = {
        name: {"error": float((call().cpu().float() - expected).abs().max())}
        for name, call in calls.items()
    }
    details["torch.sparse CSR"] |= {"kernel": "torch.sparse", "sparsity": SPARSITY}
    kinds = {name: "sparse" if "CSR" in name else "dense" for name in calls}
    measured = script.measure(dict(calls))
    results = rows(measured, kinds, details)
    about = {"cell": "gru", "hidden": hidden, "columns": columns, "frames": x.shape[1]}
    about |= {"gpu": torch.cuda.get_device_name()}
    show(
        key,
        script.record.add(key, {**about, "results": results}, measured.other_load)["results"],
        {},
    )


def main(arguments: Sequence[str]) -> int:
    script = start("gpu", __doc__ or "", gpu_display, arguments, timed=False)
    if not torch.cuda.is_available():
        if not script.done("not run"):
            script.record.add("not run", {"reason": NO_GPU, "results": []}, None)
            print(f"not run: {NO_GPU}")
        return 0
    script.record.parts.pop("not run", None)
    for hidden in SIZES[:1] if script.quick else SIZES:
        for columns in COLUMNS[:1] if script.quick else COLUMNS:
            measure(script, hidden, columns)
    return 0


if __name__ == "__main__":
    finish(main)
