"""The one place that knows Lightning's inside: what it finds out about the machine."""

import pytest
import torch

from asr.train import trainer


@pytest.mark.parametrize(
    ("cpu", "bf16", "amx", "expected"),
    [
        ("AMD EPYC 9R14", True, False, "bf16"),
        ("AMD EPYC 7R32", False, False, "float32"),
        ("Intel(R) Xeon(R) Processor", True, False, "float32"),
        ("Intel(R) Xeon(R) Processor", True, True, "bf16"),
    ],
)
def test_bfloat16_is_automatic_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, cpu: str, bf16: bool, amx: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(trainer, "machine", lambda: {"cpu": cpu})
    assert trainer.fast_precision() == expected
