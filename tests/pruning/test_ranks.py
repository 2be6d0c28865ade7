"""Ranks with equal masks go on, ranks with different ones all stop, by name."""

import subprocess
import sys

# Two processes of torch.distributed over gloo, each with the Pruner's own comparison.
RANK = """
import sys
import torch
from torch import distributed, nn
from asr.errors import AsrError
from asr.pruning import Constant, Cubic, Pruner, Rule

rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
model = nn.GRU(5, 8)
pruner = Pruner(model, Rule(Constant(0.5)))
pruner.step()
print("equal", pruner.sparsity())
with torch.no_grad():
    model.weight_hh_l0[rank, 3] = 9.0
Pruner(model, Rule(Constant(0.9)), check_ranks=False).step()
try:
    Pruner(model, Rule(Constant(0.9))).step()
except AsrError as error:
    print(error)
distributed.destroy_process_group()
"""


def test_different_masks_stop_every_rank(tmp_path):
    command = [sys.executable, "-c", RANK]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    for process in ranks:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        first, second = output.splitlines()
        assert first == "equal 0.5"
        assert second.startswith("masks of rank 1 differ from those of rank 0")
