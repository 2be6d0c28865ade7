"""LibriSpeech and its language models, fetched from OpenSLR (SLR12 and SLR11).

A part of LibriSpeech is complete when `DIR/PART/.completed` is there, which is written last. On
the way there are `DIR/.archives/PART.tar.gz` and the folder `DIR/.PART.partial`; a call that was
interrupted at any point is continued by the next one.
"""

import errno
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asr.corpus import librispeech
from asr.corpus.fetch import Patience, Published, fetch, md5_of
from asr.corpus.manifest import write_manifest
from asr.corpus.progress import Meter, size_of
from asr.corpus.unpack import discard, publish, unpack
from asr.errors import AsrError
from asr.files import (
    CannotWrite,
    atomic_path,
    atomic_write_text,
    check_folder_writable,
    locked,
)

ADDRESS = "https://www.openslr.org/resources"
MARK = ".completed"
"""Last file of a part, as lhotse's recipe writes it too."""
_SPEECH, _MODELS = "12", "11"
"""OpenSLR's numbers of the two."""


@dataclass(frozen=True)
class SpeechPart(Published):
    """A part of LibriSpeech."""

    utterances: int = 0


# MD5 sums from https://www.openslr.org/resources/12/md5sum.txt; sizes as in Kaldi's recipe,
# utterances as in the corpus' paper and DeepSpeech2's.
LIBRISPEECH = {
    name: SpeechPart(f"{name}.tar.gz", md5, size, utterances)
    for name, md5, size, utterances in (
        ("train-clean-100", "2a93770f6d5c6c964bc36631d331a522", 6_387_309_499, 28_539),
        ("train-clean-360", "c0e676e450a7ff2f54aeade5171606fa", 23_049_477_885, 104_014),
        ("train-other-500", "d1a0fd59409feb2c614ce4d30c387708", 30_593_501_606, 148_688),
        ("dev-clean", "42e2234ba48799c1f50f24a7926300a1", 337_926_286, 2_703),
        ("dev-other", "c8d0bcc9cca99d4f8b62fcc847357931", 314_305_928, 2_864),
        ("test-clean", "32fa31d27d2e1cad72775fee3f4849a9", 346_663_984, 2_620),
        ("test-other", "fb5a50374b501bb3bac4815ee91d3135", 328_757_843, 2_939),
    )
}
"""The seven parts of the corpus, by name."""

LANGUAGE_MODELS = {
    name: Published(file, md5)
    for name, file, md5 in (
        ("3-gram", "3-gram.arpa.gz", "74cbb837e582378c26c602e1c8cbcb9c"),
        ("4-gram", "4-gram.arpa.gz", "6abdcd5b055bd482e4f9defe91d40408"),
        ("lexicon", "librispeech-lexicon.txt", "28f72663f6bfed7cd346283c064c315b"),
        ("3-gram-1e-7", "3-gram.pruned.1e-7.arpa.gz", "9a0f1325bcaf3a0f7b7be4be10823c2a"),
        ("3-gram-3e-7", "3-gram.pruned.3e-7.arpa.gz", "8f67ec741827742eee05799ab7605b50"),
        ("vocabulary", "librispeech-vocab.txt", "bf3cc7a50112831ed8b0afa40cae96a5"),
        ("text", "librispeech-lm-norm.txt.gz", "c83c64c726a1aedfe65f80aa311de402"),
    )
}
"""The n-gram models, pruned and not, their words and the text that they were made from."""


def get_librispeech(
    folder: Path,
    parts: Sequence[str],
    mirror: str = ADDRESS,
    table: Mapping[str, SpeechPart] = LIBRISPEECH,
    patience: Patience | None = None,
) -> None:
    """Fetch, check and unpack parts of LibriSpeech into `folder/PART`, with `folder/PART.jsonl`.

    What is complete is left alone. A part that somebody else unpacked there is used if it has all
    of its utterances. `mirror` is an address, or a folder that holds the archives. Raises AsrError.
    """
    wanted = _chosen(parts, table, "part of LibriSpeech")
    missing = [name for name in wanted if not _is_complete(folder, name)]
    for name in wanted:
        if name not in missing:
            print(f"{name}: complete, {folder / name}.jsonl")
    if not missing:
        return
    with _alone(folder):
        for name in missing:
            _get_part(folder, name, table[name], mirror, patience)


def get_language_models(
    folder: Path,
    names: Sequence[str] = ("3-gram", "4-gram", "lexicon"),
    mirror: str = ADDRESS,
    table: Mapping[str, Published] = LANGUAGE_MODELS,
    patience: Patience | None = None,
) -> None:
    """Fetch LibriSpeech's n-gram models and lexicon into `folder`, and check them.

    Files that are there and whole are left alone. Raises AsrError.
    """
    wanted = _chosen(names, table, "file of LibriSpeech's language models")
    known = _read_mark(folder / MARK)
    missing = []
    for name in wanted:
        path, published = folder / table[name].name, table[name]
        if path.is_file() and known.get(published.name) == [published.md5, path.stat().st_size]:
            print(f"{name}: complete, {path}")
        else:
            missing.append(published)
    if not missing:
        return
    with _alone(folder):
        for published in missing:
            path = folder / published.name
            if not path.exists():
                _get_file(published, _MODELS, mirror, path, patience)
            else:
                _check(path, published)
            known = _read_mark(folder / MARK)
            known[published.name] = [published.md5, path.stat().st_size]
            atomic_write_text(folder / MARK, json.dumps(known, indent=1) + "\n")
            print(f"{path}: {size_of(path.stat().st_size)}, MD5 sum as published")


def _chosen(names: Sequence[str], table: Mapping[str, Published], kind: str) -> list[str]:
    """The names without repeats, `all` for every one. Raises AsrError for one that is unknown."""
    import difflib

    if not names:
        raise AsrError(f"name at least one {kind}: {', '.join(table)}, or all")
    for name in names:
        if name not in table and name != "all":
            near = difflib.get_close_matches(name, table, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise AsrError(f"{name!r} is not a {kind}; there are {', '.join(table)}{hint}")
    return list(table) if "all" in names else list(dict.fromkeys(names))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder; AsrError if another process fetches into it."""
    check_folder_writable(folder)
    with locked(folder / ".lock", wait=False) as held:
        if not held:
            raise AsrError(f"{folder}: another process is fetching into it")
        try:
            yield
        except KeyboardInterrupt:
            print("stopped; run the same command to continue", file=sys.stderr)
            raise


def _is_complete(folder: Path, name: str) -> bool:
    return (folder / name / MARK).is_file() and (folder / f"{name}.jsonl").is_file()


def _get_part(
    folder: Path, name: str, part: SpeechPart, mirror: str, patience: Patience | None
) -> None:
    """Everything that is still to do for a part; the mark is written last."""
    own = folder / ".archives" / part.name
    place = folder / name
    if not place.exists():
        archive = own if own.exists() else _local(mirror, _SPEECH, part.name)
        if archive is None:
            _require(folder, 2 * (part.size or 0) - _bytes_of(own), name)
            archive = own
            _get_file(part, _SPEECH, mirror, own, patience)
        else:
            _check(archive, part)
        _unpack_part(archive, place, folder / f".{name}.partial")
    found = librispeech.scan(place)
    unread = sum(utterance.duration == 0 for utterance in found)
    if len(found) != part.utterances or unread:
        raise AsrError(
            f"{place}: is not whole: {len(found) - unread:,} of {part.utterances:,} utterances can "
            "be read; remove the folder to fetch it again"
        )
    write_manifest(folder / f"{name}.jsonl", found)
    hours = sum(utterance.duration for utterance in found) / 3600
    about = {"archive": part.name, "md5": part.md5, "utterances": len(found)}
    atomic_write_text(place / MARK, json.dumps(about) + "\n")
    own.unlink(missing_ok=True)
    if own.parent.is_dir() and not any(own.parent.iterdir()):
        own.parent.rmdir()
    print(f"{name}: {len(found):,} utterances, {hours:.2f} hours, {folder / name}.jsonl")


def _unpack_part(archive: Path, place: Path, partial: Path) -> None:
    """Unpack an archive beside its place; give it its name when it is whole."""
    discard(partial)
    _require(partial.parent, archive.stat().st_size, place.name)
    inside = partial / "LibriSpeech" / place.name
    try:
        with Meter(f"unpacking {archive.name}", archive.stat().st_size) as meter:
            unpack(archive, partial, meter.update)
        if not inside.is_dir():
            raise AsrError(f"{archive}: has no folder LibriSpeech/{place.name}")
    except AsrError:
        discard(partial)  # of no use: unpacking begins anew
        raise
    for file in (partial / "LibriSpeech").iterdir():
        if file.is_file():  # SPEAKERS.TXT and the like, the same in every archive
            file.replace(place.parent / file.name)
    publish(inside, place)
    discard(partial)


def _get_file(
    published: Published, resource: str, mirror: str, path: Path, patience: Patience | None
) -> None:
    """Have the file at `path`, whole: from an address, or copied from a folder."""
    local = _local(mirror, resource, published.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if local is None:
        url = f"{mirror.rstrip('/')}/{resource}/{published.name}"
        fetch(url, path, published, print, patience)
        return
    _check(local, published)
    with atomic_path(path) as temporary:
        shutil.copyfile(local, temporary)


def _local(mirror: str, resource: str, name: str) -> Path | None:
    """The archive in a folder that was given as mirror; None for an address."""
    if "://" in mirror:
        return None
    places = [Path(mirror) / resource / name, Path(mirror) / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise AsrError(
            f"{mirror}: no {name} in this folder; give the address of a mirror, such as "
            "https://openslr.elda.org/resources, or a folder with the archives"
        )
    return found


def _check(path: Path, published: Published) -> None:
    """Raise AsrError for a file that is not the published one."""
    size = path.stat().st_size
    if published.size is not None and size != published.size:
        raise AsrError(
            f"{path}: has {size:,} bytes, published are {published.size:,}; remove it, or complete "
            "it, and run the same command again"
        )
    with Meter(f"checking {path.name}", size) as meter:
        found = md5_of(path, meter.update)
    if found != published.md5:
        raise AsrError(
            f"{path}: the MD5 sum is {found}, published is {published.md5}: the file is damaged, "
            "or another one; remove it and run the same command again"
        )


def _require(folder: Path, needed: int, name: str) -> None:
    """Raise CannotWrite if the disk has too little room, before hours of work."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CannotWrite(
            f"{folder}: {name} needs {size_of(needed)} more; {size_of(free)} are free",
            errno.ENOSPC,
        )


def _bytes_of(archive: Path) -> int:
    """What has come of an archive so far."""
    part = archive.with_name(archive.name + ".part")
    return part.stat().st_size if part.exists() else 0


def _read_mark(path: Path) -> dict[str, list[object]]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
