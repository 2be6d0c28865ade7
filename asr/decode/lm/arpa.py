"""Reads and writes back-off models in ARPA's text format, plain or compressed with gzip or xz."""

import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from asr.decode.lm.build import Indices, NGrams, NGramTable, find_rows
from asr.decode.lm.model import BOS, EOS, UNKNOWN
from asr.errors import AsrError
from asr.files import DAMAGE, UTF8_MARK, atomic_path, foreign_text, open_compressed

_LINES = 100_000
"""Lines that are converted at once: numpy does it several times faster than line by line."""
_MISSING_UNKNOWN = -100.0
"""log10 probability of <unk> in a file that does not list it, as in kenlm."""
_NEVER = -99999.0
"""Read for -inf, the logarithm of 0: a number that no search gets over."""
_COUNT = re.compile(rb"\s*[0-9]{1,15}\s*")
_ROUNDING = 1e-4
"""A log10 probability may lie this far above 0 by rounding; it is then read as 0."""
_LARGEST = 1e30
"""Weights beyond this are damage: float32 holds no more than 1e38."""
_SPECIAL = {word.upper().encode(): word.encode() for word in (BOS, EOS, UNKNOWN)}
"""Special words as some programs (SRILM) write them, and as they are called here."""
_OTHERS = {
    b"mmap lm http://kheafield.com": "a binary model of KenLM; give the ARPA file it was made from",
    b"SRILM_BINARY_NGRAM": "a binary model of SRILM; write it as ARPA with ngram -write-lm",
    b"blmt": "a binary model of IRSTLM; write it as ARPA with compile-lm --text=yes",
    b"Qblmt": "a binary model of IRSTLM; write it as ARPA with compile-lm --text=yes",
    b"iARPA": "IRSTLM's own iARPA format; write it as ARPA with compile-lm --text=yes",
    b"qARPA": "IRSTLM's own qARPA format; write it as ARPA with compile-lm --text=yes",
}
"""First bytes of the files of other programs, and what to do with them."""

Floats = npt.NDArray[np.float64]


class _Lines:
    """Lines of a file, counted for the messages."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.number = path, 0
        self._lines = iter(file)
        self._again: bytes | None = None

    def next(self) -> bytes:
        """The next line that is not blank; b"" at the end."""
        if self._again is not None:
            line, self._again = self._again, None
            return line
        for line in self._lines:
            self.number += 1
            if self.number == 1:
                line = line.removeprefix(UTF8_MARK)
                self._refuse_others(line)
            if line.strip():
                return line.strip()
        return b""

    def back(self, line: bytes) -> None:
        """Let `next` give this line, the latest one, again."""
        self._again = line

    def take(self, count: int) -> tuple[list[bytes], Sequence[int]]:
        """Up to `count` lines that are not blank, and their numbers; none at the end."""
        while lines := list(islice(self._lines, count)):
            numbers: Sequence[int] = range(self.number + 1, self.number + 1 + len(lines))
            self.number += len(lines)
            if any(map(bytes.isspace, lines)):
                pairs = zip(lines, numbers, strict=True)
                filled = [(line, number) for line, number in pairs if not line.isspace()]
                lines, numbers = [line for line, _ in filled], [number for _, number in filled]
            if lines:
                return lines, numbers
        return [], []

    def finish(self) -> None:
        """Read the rest: only at the end of a compressed file does its checksum show damage."""
        for _ in self._lines:
            pass

    def fail(self, problem: str, number: int | None = None) -> NoReturn:
        raise AsrError(f"{self.path}:{number or self.number}: {problem}")

    def _refuse_others(self, first: bytes) -> None:
        for magic, what in _OTHERS.items():
            if first.startswith(magic):
                self.fail(f"this is {what}")
        if problem := foreign_text(first):
            self.fail(problem)


def read_arpa(path: str | Path) -> NGrams:
    """The model of an ARPA file, as this program, KenLM, SRILM or IRSTLM write it.

    A byte order mark, blank lines, `<UNK>` for `<unk>` and -inf are read as they are meant.
    Raises AsrError naming file and line if the file is malformed or of another format.
    """
    path = Path(path)
    with open_compressed(path) as file:
        lines = _Lines(path, file)
        try:
            return _read(lines)
        except DAMAGE as error:
            raise AsrError(f"{path}: damaged after line {lines.number}: {error}") from None


def _read(lines: _Lines) -> NGrams:
    counts = _read_counts(lines)
    vocabulary: list[str] = []
    index: dict[bytes, int] = {}
    orders: list[NGramTable] = []
    for n, count in enumerate(counts, 1):
        _expect(lines, f"\\{n}-grams:")
        logs, ids, backoffs = _read_section(lines, n, count, index)
        if n == 1:
            vocabulary = _vocabulary(lines, index, count)
            if UNKNOWN not in vocabulary:
                vocabulary.append(UNKNOWN)
                logs, backoffs = np.append(logs, _MISSING_UNKNOWN), np.append(backoffs, 0.0)
            rows = np.arange(len(vocabulary))
            orders.append(_table(np.zeros_like(rows), rows, logs, backoffs))
        else:
            orders.append(_sorted_table(lines, orders, ids, logs, backoffs, len(vocabulary)))
    _expect(lines, "\\end\\")
    lines.finish()
    return NGrams(vocabulary, orders)


def _expect(lines: _Lines, header: str) -> None:
    """Go over the line `header`."""
    line = lines.next()
    if not line:
        lines.fail(f"expected {header}, but the file ends here: it is truncated")
    if line != header.encode():
        lines.fail(f"expected {header}, found {_excerpt(line)}: a count after \\data\\ is wrong")


def _excerpt(line: bytes) -> str:
    return repr(line[:60].decode(errors="replace"))


def _read_counts(lines: _Lines) -> list[int]:
    line = lines.next()
    while line and line != b"\\data\\":
        line = lines.next()
    if not line:
        lines.fail("no line \\data\\; not an ARPA file")
    counts: list[int] = []
    # A blank line ends the counts, except in the files of IRSTLM: the next section does in all.
    while (line := lines.next()) and not line.startswith(b"\\"):
        name, _, count = line.partition(b"=")
        if name.split() != [b"ngram", str(len(counts) + 1).encode()] or not _COUNT.fullmatch(count):
            lines.fail(f"expected ngram {len(counts) + 1}=COUNT, found {_excerpt(line)}")
        counts.append(int(count))
    if not counts:
        lines.fail("no counts after \\data\\")
    lines.back(line)
    return counts


def _vocabulary(lines: _Lines, index: dict[bytes, int], count: int) -> list[str]:
    """The words of the first section, which has been read."""
    words = [_SPECIAL.get(word, word).decode() for word in index]
    if len(words) != count:
        lines.fail(f"{count - len(words)} of the {count} words are listed twice")
    both = [word.decode() for word in _SPECIAL.values() if words.count(word.decode()) > 1]
    if both:
        lines.fail(f"{both[0]} is listed twice, as {both[0]} and as {both[0].upper()}")
    return words


def _read_section(
    lines: _Lines, n: int, count: int, index: dict[bytes, int]
) -> tuple[Floats, Indices, Floats]:
    """log10 probabilities, words (count, n) and back-offs of one order; fills `index` at n = 1."""
    logs, ids, backoffs = [np.empty(0)], [np.empty((0, n), dtype=np.int64)], [np.empty(0)]
    left = count
    while left:
        block, numbers = lines.take(min(left, _LINES))
        if not block:
            lines.fail(f"the file ends {left} lines before the end of \\{n}-grams:")
        left -= len(block)
        flat, width = _fields(lines, block, n, numbers)
        columns = [flat[n_::width] for n_ in range(width)]
        if n == 1:
            _require_utf8(lines, columns[1], numbers)
            for word in columns[1]:
                index.setdefault(word, len(index))
        logs.append(_probabilities(lines, columns[0], numbers))
        ids.append(_ids(lines, columns[1 : n + 1], numbers, index))
        if width == n + 2:
            backoffs.append(_floats(lines, columns[-1], numbers, "back-off weight"))
        else:
            backoffs.append(np.zeros(len(block)))
    return np.concatenate(logs), np.concatenate(ids), np.concatenate(backoffs)


def _require_utf8(lines: _Lines, words: list[bytes], numbers: Sequence[int]) -> None:
    try:
        b" ".join(words).decode()
    except UnicodeDecodeError:
        for word, number in zip(words, numbers, strict=True):
            if word.decode(errors="replace").encode() != word:
                lines.fail(f"{_excerpt(word)} is not UTF-8; convert the file to UTF-8", number)


def _ids(
    lines: _Lines, columns: list[list[bytes]], numbers: Sequence[int], index: dict[bytes, int]
) -> Indices:
    try:
        words = [list(map(index.__getitem__, column)) for column in columns]
    except KeyError:
        for row, number in zip(zip(*columns, strict=True), numbers, strict=True):
            for word in row:
                if word not in index:
                    lines.fail(f"{_excerpt(word)} is not a word of \\1-grams:", number)
        raise
    return np.array(words, dtype=np.int64).T


def _probabilities(lines: _Lines, column: list[bytes], numbers: Sequence[int]) -> Floats:
    values = _floats(lines, column, numbers, "log10 probability")
    above = np.flatnonzero(values > _ROUNDING)
    if len(above):
        found = column[above[0]].decode(errors="replace")
        problem = f"a log10 probability of {found} is above 0; the program that wrote it is wrong"
        lines.fail(problem, numbers[above[0]])
    return np.minimum(values, 0.0)


def _floats(lines: _Lines, column: list[bytes], numbers: Sequence[int], what: str) -> Floats:
    """The numbers of a column."""
    try:
        values = np.array(column, dtype="S").astype(np.float64)
    except ValueError:
        values = np.array([_number(cell) for cell in column])
    values[values == -np.inf] = _NEVER
    wrong = np.flatnonzero(~(np.abs(values) < _LARGEST))
    if len(wrong):
        found = _excerpt(column[wrong[0]])
        lines.fail(f"expected a number for the {what}, found {found}", numbers[wrong[0]])
    return values


def _number(cell: bytes) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _fields(
    lines: _Lines, block: list[bytes], n: int, numbers: Sequence[int]
) -> tuple[list[bytes], int]:
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
    for number, line in zip(numbers, block, strict=True):
        fields = line.split()
        if line.startswith(b"\\"):
            lines.fail(f"\\{n}-grams: ends here, before the count after \\data\\ says", number)
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
