"""Starts the processes of a training on this machine, as torchrun does."""

import signal
import sys
import uuid
from collections.abc import Sequence

from asr.settings.training import TrainingSettings
from asr.train.trainer import place


def started_here(settings: TrainingSettings) -> bool:
    """Whether this process has to start those of the training, because nothing else did."""
    return not place().launcher and settings.devices > 1 and settings.nodes <= 1


def launch(devices: int, words: Sequence[str]) -> int:
    """Run `asr` with these words in `devices` processes; the exit status of the first that failed.

    torch's own elastic agent watches them: when one ends with an error, it ends the others. 128
    and the signal's number for a process that a signal ended, as a shell says it.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "asr", *words)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code
    except SignalException as error:
        return 128 + int(error.sigval)
    except KeyboardInterrupt:
        return 128 + int(signal.SIGINT)
    return 0
