"""Invented records in the format of real ones, for the tests of `asr.report`."""

from pathlib import Path
from typing import Any

from asr.report import write_record

MATRICES = [
    (f"rnn.{layer}.{direction}_cell.weight_{kind}_l0", group)
    for layer in range(3)
    for direction in ("forward", "backward")
    for kind, group in (("ih", "input"), ("hh", "recurrent"))
]


def plain_record(
    name: str = "dense-128",
    group: str = "dense",
    label: str = "GRU 128, dense",
    *,
    hidden: int = 128,
    cell: str = "gru",
    tokenizer: str = "characters",
    seed: int = 1,
    sparsity: float | None = None,
    nonzeros: int | None = None,
    tests: dict[str, float] | None = None,
    half: float = 0.016,
    speed: bool = False,
    recipe: str = "sparsity",
    distillation: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A complete record; `tests` are WERs by dataset, `half` half the width of their intervals."""
    gates = {"gru": 3, "rnn": 1, "lstm": 4}[cell]
    elements = gates * hidden * hidden
    pruned = sparsity is not None
    tensors = []
    for index, (tensor, kind) in enumerate(MATRICES):
        fraction = (sparsity or 0.0) + (0.02 if index % 2 else -0.02) * pruned
        kept = elements - round(fraction * elements)
        tensors.append(
            {"name": tensor, "shape": [gates * hidden, hidden], "elements": elements,
             "nonzeros": kept, "group": kind}
        )  # fmt: skip
    prunable = elements * len(MATRICES)
    kept = sum(tensor["nonzeros"] for tensor in tensors)
    rest = nonzeros - kept if nonzeros else 60_000 + 500 * hidden
    pruning = None
    if sparsity is not None:
        curve = [[150 + 7 * i, sparsity * (i / 39) ** 0.7] for i in range(40)]
        pruning = {
            "method": "threshold_ramp", "target_sparsity": round(sparsity, 2), "sparsity": sparsity,
            "sparsity_min": sparsity - 0.02, "sparsity_max": sparsity + 0.02, "mask_updates": 40,
            "start": 150, "ramp": 240, "end": 420, "frequency": 7, "curve": curve,
            "thresholds": {tensor: {"q": 0.1 + 0.01 * i} for i, (tensor, _) in enumerate(MATRICES)},
        }  # fmt: skip
    evaluation = {
        dataset: {
            "utterances": 400, "words": 2800, "speakers": 40, "audio_seconds": 1200.0,
            "wer": wer, "wer_low": wer - half, "wer_high": wer + half, "cer": wer / 3,
            "insertions": 10, "deletions": 20, "substitutions": 300, "decoder": "greedy",
            "lm": None, "normalisation": "en-v1",
        }
        for dataset, wer in (tests if tests is not None else {"spoken test": 0.2}).items()
    }  # fmt: skip
    record = {
        "schema": 1, "name": name, "recipe": recipe, "group": group, "label": label, "seed": seed,
        "command": f"asr train recipes/spoken.yaml name={name} model.hidden={hidden} seed={seed}",
        "git": {"revision": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "date": "2026-11-24T21:00:00+00:00", "versions": {"python": "3.11.7", "torch": "2.14.1"},
        "machine": {"cpu": "AMD EPYC", "cores": 2, "memory_gib": 23.5}, "threads": 1,
        "settings": {"name": name, "model": {"hidden": hidden}},
        "training": {
            "seconds": 300.1, "steps": 600, "epochs": 20, "audio_hours": 20.0,
            "audio_seconds_per_second": 190.0, "peak_memory_mib": 812.0, "final_loss": 0.61,
            "best_epoch": 18, "dev_wer": 0.12, "excluded_utterances": 0,
        },
        "model": {
            "parameters": prunable + rest, "nonzeros": kept + rest,
            "prunable_parameters": prunable, "prunable_nonzeros": kept, "cell": cell,
            "hidden": hidden, "layers": 3, "tokenizer": tokenizer, "tensors": tensors,
        },
        "pruning": pruning, "distillation": distillation,
        "files": {"model_bytes": 4 * (prunable + rest),
                  "packed_bytes": 2 * kept + 2 * rest + prunable // 8, "packed_values": "fp16"},
        "evaluation": evaluation,
    }  # fmt: skip
    if speed:
        record["speed"] = {"dense_seconds": 1.2, "packed_seconds": 0.4, "audio_seconds": 60.0,
                           "threads": 1, "median_of": 5}  # fmt: skip
    return record


def write_all(folder: Path, records: list[dict[str, Any]]) -> Path:
    """Write each record as `<name>.json` into `folder`."""
    for record in records:
        write_record(folder / f"{record['name']}.json", record)
    return folder


def whole_grid(datasets: dict[str, float]) -> list[dict[str, Any]]:
    """About what the sparsity recipe writes; `datasets` are factors on the WERs."""

    def add(name: str, group: str, label: str, wer: float | None, **options: Any) -> None:
        tests = {d: min(0.97, wer * f) for d, f in datasets.items()} if wer else {}
        half = 0.006 + 0.05 * (wer or 0)
        records.append(plain_record(name, group, label, tests=tests, half=half, **options))

    records: list[dict[str, Any]] = []
    for hidden, wer in ((256, 0.086), (128, 0.109), (64, 0.171)):
        add(f"dense-{hidden}", "dense", f"GRU {hidden}, dense", wer, hidden=hidden)
    for hidden, wers in ((256, (0.090, 0.104, 0.148)), (128, (0.118, 0.155, 0.221))):
        for fraction, wer in zip((0.803, 0.902, 0.948), wers, strict=True):
            asked = round(100 * fraction / 5) * 5
            add(f"sparse-{hidden}-{asked}", "sparse", f"GRU {hidden}, {asked} %, sparse", wer,
                hidden=hidden, sparsity=fraction)  # fmt: skip
    sizes = {record["name"]: record["model"]["nonzeros"] for record in records}
    for size, hidden, wer in (("256-90", 100, 0.122), ("128-90", 44, 0.245), ("256-95", 68, 0.165)):
        add(f"small-{size}", "small-dense", f"GRU {hidden}, dense of equal non-zeros", wer,
            hidden=hidden, nonzeros=round(1.02 * sizes[f"sparse-{size}"]))  # fmt: skip
    add("rnn-dense", "dense", "RNN 256, dense", 0.201, hidden=256, cell="rnn")
    add("rnn-sparse", "sparse", "RNN 256, 90 %, sparse", 0.236, hidden=256, cell="rnn",
        sparsity=0.893)  # fmt: skip
    add(
        "sentencepiece-dense",
        "dense",
        "GRU 128, sentencepiece, dense",
        0.131,
        hidden=128,
        tokenizer="sentencepiece 200",
    )
    add("sentencepiece-sparse", "sparse", "GRU 128, sentencepiece, 90 %, sparse", None, hidden=128,
        tokenizer="sentencepiece 200", sparsity=0.911)  # fmt: skip
    return records
