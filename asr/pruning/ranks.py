"""Whether all ranks of a distributed training have the same masks."""

from collections.abc import Callable

import torch
from torch import distributed

from asr.errors import AsrError


def check_equal(hash_of: Callable[[], str], device: torch.device) -> None:
    """Compare a hash (hexadecimal, of one length) over all ranks of torch.distributed, if it runs.

    device: where the weights are, which is where the ranks' backend can exchange tensors.
    Raises AsrError, on every rank, that lists which ranks differ.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    world = distributed.get_world_size()
    if world == 1:
        return
    own = torch.tensor(list(bytes.fromhex(hash_of())), dtype=torch.uint8, device=device)
    everyone = [torch.empty_like(own) for _ in range(world)]
    distributed.all_gather(everyone, own)
    hashes = [bytes(h.tolist()).hex() for h in everyone]
    if different := [rank for rank, value in enumerate(hashes) if value != hashes[0]]:
        raise AsrError(
            f"masks of rank {', '.join(map(str, different))} differ from those of rank 0: the "
            "ranks do not train the same weights. Wrap the model in DistributedDataParallel, or "
            "make the Pruner with check_ranks=False if each rank prunes a part of its own"
        )
