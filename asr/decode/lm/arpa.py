"""Reads and writes back-off models in ARPA's text format, plain or compressed with gzip or xz."""

import gzip
import lzma
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from asr.decode.lm.build import Indices, NGrams, NGramTable, find_rows
from asr.decode.lm.model import UNKNOWN
from asr.errors import AsrError
from asr.files import atomic_path, open_compressed

_LINES = 100_000
"""Lines that are converted at once: numpy does it several times faster than line by line."""
_MISSING_UNKNOWN = -100.0
"""log10 probability of <unk> in a file that does not list it, as in kenlm."""


class _Lines:
    """Lines of a file, counted for the messages."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.number = path, 0
        self._lines = iter(file)

    def next(self) -> bytes:
        """The next line that is not blank; b"" at the end."""
        for line in self._lines:
            self.number += 1
            if line.strip():
                return line.strip()
        return b""

    def take(self, count: int) -> list[bytes]:
        lines = list(islice(self._lines, count))
        self.number += len(lines)
        return lines

    def fail(self, problem: str, number: int | None = None) -> NoReturn:
        raise AsrError(f"{self.path}:{number or self.number}: {problem}")


def read_arpa(path: str | Path) -> NGrams:
    """The model of an ARPA file. Raises AsrError naming file and line if it is malformed."""
    path = Path(path)
    with open_compressed(path) as file:
        try:
            return _read(_Lines(path, file))
        except (EOFError, OSError, lzma.LZMAError) as error:
            raise AsrError(f"{path}: damaged: {error}") from None


def _read(lines: _Lines) -> NGrams:
    counts = _read_counts(lines)
    vocabulary: list[str] = []
    index: dict[bytes, int] = {}
    orders: list[NGramTable] = []
    for n, count in enumerate(counts, 1):
        if lines.next() != f"\\{n}-grams:".encode():
            lines.fail(f"expected \\{n}-grams:")
        logs, ids, backoffs = _read_section(lines, n, count, index)
        if n == 1:
            vocabulary = [word.decode() for word in index]
            if len(vocabulary) != count:
                lines.fail(f"{count - len(vocabulary)} of the {count} words are listed twice")
            if UNKNOWN not in vocabulary:
                vocabulary.append(UNKNOWN)
                logs, backoffs = np.append(logs, _MISSING_UNKNOWN), np.append(backoffs, 0.0)
            rows = np.arange(len(vocabulary))
            orders.append(_table(np.zeros_like(rows), rows, logs, backoffs))
        else:
            orders.append(_sorted_table(lines, orders, ids, logs, backoffs, len(vocabulary)))
    if lines.next() != b"\\end\\":
        lines.fail("expected \\end\\; the file is truncated, or a count is wrong")
    return NGrams(vocabulary, orders)


def _read_counts(lines: _Lines) -> list[int]:
    line = lines.next()
    while line and line != b"\\data\\":
        line = lines.next()
    if not line:
        lines.fail("no line \\data\\; not an ARPA file")
    counts: list[int] = []
    while len(counts) < 9:
        # The counts begin after any number of blank lines; the next blank line ends them.
        line = b"".join(lines.take(1)).strip() if counts else lines.next()
        if not line:
            break
        name, _, count = line.partition(b"=")
        if name.split() != [b"ngram", str(len(counts) + 1).encode()] or not count.strip().isdigit():
            lines.fail(f"expected ngram {len(counts) + 1}=COUNT")
        counts.append(int(count))
    if not counts:
        lines.fail("no counts after \\data\\")
    return counts


def _read_section(
    lines: _Lines, n: int, count: int, index: dict[bytes, int]
) -> tuple[np.ndarray, Indices, np.ndarray]:
    """log10 probabilities, words (count, n) and back-offs of one order; fills `index` at n = 1."""
    logs, ids, backoffs = [], [], []
    left = count
    while left:
        start = lines.number
        block = lines.take(min(left, _LINES))
        if not block:
            lines.fail(f"the file ends {left} lines before the end of \\{n}-grams:")
        left -= len(block)
        flat, width = _fields(lines, block, n, start)
        columns = [flat[n_::width] for n_ in range(width)]
        if n == 1:
            for word in columns[1]:
                index.setdefault(word, len(index))
        try:
            words = [list(map(index.__getitem__, column)) for column in columns[1 : n + 1]]
            logs.append(np.array(columns[0], dtype="S").astype(np.float64))
            if width == n + 2:
                backoffs.append(np.array(columns[-1], dtype="S").astype(np.float64))
            else:
                backoffs.append(np.zeros(len(block)))
        except (KeyError, ValueError) as error:
            what = (
                f"{error.args[0].decode()} is not a word of \\1-grams:"
                if isinstance(error, KeyError)
                else str(error)
            )
            lines.fail(f"within the {len(block)} lines before: {what}")
        ids.append(np.array(words, dtype=np.int64).T)
    if not logs:
        return np.empty(0), np.empty((0, n), dtype=np.int64), np.empty(0)
    return np.concatenate(logs), np.concatenate(ids), np.concatenate(backoffs)


def _fields(lines: _Lines, block: list[bytes], n: int, start: int) -> tuple[list[bytes], int]:
    """All fields of the lines, and how many a line has; a missing back-off becomes 0."""
    # Nearly always all lines have the same number of fields: one split is enough.
    flat = b" ".join(block).split()
    widths = {n + 1, n + 2}
    if len(flat) in {len(block) * width for width in widths}:
        counted = {len(line.split()) for line in (block[0], block[-1])}
        width = len(flat) // len(block)
        if counted == {width}:
            return flat, width
    flat = []
    for number, line in enumerate(block, start + 1):
        fields = line.split()
        if len(fields) not in widths:
            lines.fail(f"expected a log-probability, {n} words and an optional back-off", number)
        flat += fields if len(fields) == n + 2 else [*fields, b"0"]
    return flat, n + 2


def _table(contexts: Indices, words: Indices, logs: Any, backoffs: Any) -> NGramTable:
    return NGramTable(contexts, words, logs.astype(np.float32), backoffs.astype(np.float32))


def _sorted_table(
    lines: _Lines, orders: list[NGramTable], ids: Indices, logs: Any, backoffs: Any, size: int
) -> NGramTable:
    """The table after `orders`, its contexts found and its rows sorted."""
    contexts = ids[:, 0]
    for n in range(1, len(orders)):
        contexts = find_rows(orders[n], contexts, ids[:, n], size)
        if (contexts < 0).any():
            lines.fail(
                f"{int((contexts < 0).sum())} of the {len(orders) + 1}-grams just read begin with "
                f"{n + 1} words that \\{n + 1}-grams: does not list"
            )
    keys = contexts * size + ids[:, -1]
    by_key = np.argsort(keys, kind="stable")
    keys = keys[by_key]
    if (keys[1:] == keys[:-1]).any():
        lines.fail(f"one of the {len(orders) + 1}-grams just read is listed twice")
    return _table(contexts[by_key], ids[by_key, -1], logs[by_key], backoffs[by_key])


def write_arpa(path: str | Path, ngrams: NGrams) -> None:
    """Write a model in ARPA's format, compressed if the name ends in `.gz`."""
    path = Path(path)
    with atomic_path(path) as temporary, temporary.open("wb") as plain:
        if path.suffix == ".gz":
            # A fixed time and no name: equal models give equal files.
            with gzip.GzipFile("", "wb", 6, plain, mtime=0) as compressed:
                compressed.writelines(_text(ngrams))
        else:
            plain.writelines(_text(ngrams))


def _text(ngrams: NGrams) -> Iterator[bytes]:
    orders = ngrams.orders
    counts = (f"ngram {n}={len(order.words)}\n" for n, order in enumerate(orders, 1))
    yield ("\\data\\\n" + "".join(counts)).encode()
    names = [word.encode() for word in ngrams.vocabulary]
    spellings = names
    rows: Iterable[bytes]
    for n, order in enumerate(orders, 1):
        yield f"\n\\{n}-grams:\n".encode()
        last = n == len(orders)
        if n > 1:
            # Many rows share a context: each context is spelt once.
            pairs = zip(order.contexts.tolist(), order.words.tolist(), strict=True)
            rows = (b"%b %b" % (spellings[c], names[w]) for c, w in pairs)
        else:
            rows = names
        if last:
            for log, spelling in zip(order.logs.tolist(), rows, strict=True):
                yield b"%.7g\t%b\n" % (log, spelling)
            break
        spellings = list(rows)
        values = zip(order.logs.tolist(), spellings, order.backoffs.tolist(), strict=True)
        for log, spelling, backoff in values:
            yield b"%.7g\t%b\t%.7g\n" % (log, spelling, backoff)
    yield b"\n\\end\\\n"
