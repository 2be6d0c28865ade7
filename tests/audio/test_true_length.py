"""Length is what decodes: wrong headers, joined files and cuts, of every kind of file."""

import os
import struct
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from encoded import MEDIA, RATE, SOUNDFILE, encode, sound
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.audio import find, length, load, mpeg, open_recording, riff, stream
from asr.errors import AsrError

SECONDS = 3.0
SAMPLES = sound(SECONDS)
LENGTH_FIELDS = {
    # kind: how the length of the samples is written, where from the first occurrence of a mark
    "wav": ("<I", b"data", 4),
    "float.wav": ("<I", b"data", 4),
    "ulaw.wav": ("<I", b"data", 4),
    "aiff": (">I", b"SSND", 4),
    "au": (">I", b".snd", 8),
    "caf": (">q", b"data", 4),
    "w64": ("<Q", b"data\xf3\xac\xd3\x11", 16),
    "rf64": ("<Q", b"ds64", 16),
}
slow_files = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """All samples that are there, what is missing, and the notes."""
    with open_recording(path) as recording:
        blocks = list(stream(recording, RATE, partial=True))
        return np.concatenate(blocks), recording.damage, recording.notes(RATE)


@pytest.mark.parametrize("kind", LENGTH_FIELDS)
@slow_files
@given(data=st.data())
def test_whatever_length_a_header_gives_all_samples_are_read(tmp_path, kind, data) -> None:
    form, mark, at = LENGTH_FIELDS[kind]
    content = bytearray(encode(kind, SAMPLES))
    at += content.index(mark)
    (true,) = struct.unpack_from(form, content, at)
    most = (1 << 31) if form[-1] == "I" else (1 << 40)
    wrong = data.draw(
        st.sampled_from([0, 2, true - 2000, true + 2, true + 16, true + 44, true + 2000])
        | st.sampled_from([(1 << 8 * struct.calcsize(form)) - 1] if form != ">q" else [-1])
        | st.integers(0, most)
    )
    struct.pack_into(form, content, at, wrong)
    samples, damage, notes = read(save(tmp_path / "a", bytes(content)))
    lost = len(SAMPLES) - len(samples)
    bytes_of_sample = (true - 24) / len(SAMPLES) if kind == "w64" else true / len(SAMPLES)
    assert 0 <= lost * bytes_of_sample <= 512
    assert bool(damage) == (true + 512 < wrong < (0x7FFF0000 if form[-1] == "I" else 1 << 62))
    assert damage or abs(wrong - true) <= 512 or any("read to the end" in n for n in notes)


def without_count(content: bytes) -> bytes:
    """An MP3 as it is written to a pipe: without the frame that counts the others."""
    first = content.index(b"\xff", 0)
    found = mpeg.frame(content[first : first + 4])
    assert found is not None
    assert b"Xing" in content[:200] or b"Info" in content[:200]
    return content[first + found.size :]


def with_count(content: bytes, frames: int) -> bytes:
    at = max(content.find(b"Xing", 0, 200), content.find(b"Info", 0, 200)) + 8
    return content[:at] + struct.pack(">I", frames) + content[at + 4 :]


def in_wav(content: bytes) -> bytes:
    """MP3 as the samples of a WAV."""
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 4000, 1, 0, 12, 1, 2, 144, 1, 1393)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"fact" + struct.pack("<II", 4, len(SAMPLES) // 2)
    body += b"data" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


ID3 = b"ID3\4\0\0\0\0\0\x0aTSSE\0\0\0\0\0\0"


@pytest.mark.parametrize("kind", ["mp3", "vbr.mp3", "abr.mp3"])
@pytest.mark.parametrize(
    "change",
    [
        without_count,
        lambda content: with_count(content, 3),
        lambda content: ID3 + without_count(content),
        lambda content: without_count(content) + b"TAG".ljust(128, b"\0"),
        lambda content: b"\0" * 700 + without_count(content),
        lambda content: in_wav(without_count(content)),
        in_wav,
    ],
    ids=[
        "no count",
        "wrong count",
        "tag before",
        "tag behind",
        "zeros before",
        "WAV",
        "WAV, count",
    ],
)
def test_mpeg_is_as_long_as_its_frames_say(tmp_path: Path, kind: str, change, capfd) -> None:
    path = save(tmp_path / "a.mp3", change(encode(kind, SAMPLES)))
    samples, damage, _ = read(path)
    assert damage == ""
    assert SECONDS - 0.05 <= len(samples) / RATE <= SECONDS + 0.2
    assert length(path) == pytest.approx(len(samples) / RATE, abs=0.1)
    capfd.readouterr()


@pytest.mark.parametrize("total", [0, 1, 16000, len(SAMPLES) + 1, (1 << 36) - 1])
def test_flac_is_as_long_as_its_last_frame_says(tmp_path: Path, total: int) -> None:
    content = bytearray(encode("flac", SAMPLES))
    (packed,) = struct.unpack_from(">Q", content, 18)
    struct.pack_into(">Q", content, 18, packed >> 36 << 36 | total)
    samples, damage, _ = read(save(tmp_path / "a.flac", bytes(content)))
    assert np.array_equal(samples, load(save(tmp_path / "b", encode("flac", SAMPLES))).samples)
    assert bool(damage) == (total > len(SAMPLES))


JOINED = [kind for kind in (*SOUNDFILE, *MEDIA) if kind != "wmv"]


@pytest.mark.parametrize("kind", JOINED)
def test_of_joined_files_all_parts_are_read(tmp_path: Path, kind: str, capfd) -> None:
    parts = [encode(kind, sound(seconds, seed=index)) for index, seconds in enumerate((1.5, 2, 1))]
    path = save(tmp_path / "a", b"".join(parts))
    samples, damage, _ = read(path)
    assert damage == ""
    assert 4.5 - 0.05 <= len(samples) / RATE <= 4.5 + 0.4
    assert length(path) == pytest.approx(len(samples) / RATE, abs=0.3)
    assert len(load(path).samples) == len(samples)
    capfd.readouterr()


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_joined_files_of_two_rates_are_resampled_each(tmp_path: Path, kind: str, capfd) -> None:
    content = encode(kind, SAMPLES) + encode(kind, sound(2.0, 44100), 44100)
    samples, damage, notes = read(save(tmp_path / "a", content))
    assert (damage, len(samples) / RATE) == ("", pytest.approx(5.0, abs=0.1))
    assert notes == ("2 recordings in one file", "44100 Hz resampled to 16000 Hz")
    capfd.readouterr()


def with_picture(content: bytes) -> bytes:
    """A FLAC with a cover picture of 60 KB behind its first header."""
    return content[:4] + b"\0" + content[5:42] + b"\6\0\xea\x60" + bytes(60000) + content[42:]


def with_offset(content: bytes, offset: int) -> bytes:
    """An AU whose samples begin there, behind a text."""
    return content[:4] + struct.pack(">I", offset) + content[8:24].ljust(offset - 8) + content[24:]


CUT_HEADERS = {
    "flac in its picture": lambda: with_picture(encode("flac", SAMPLES))[:32768],
    "flac in its first header": lambda: encode("flac", SAMPLES)[:20],
    "au before its samples": lambda: with_offset(encode("au", SAMPLES), 400)[:100],
    "rf64 in its length": lambda: b"RF64\xff\xff\xff\xffWAVEds64\x08\0\0\0" + bytes(8),
    "mp3 behind its count": lambda: encode("mp3", SAMPLES)[
        : -len(without_count(encode("mp3", SAMPLES)))
    ],
}


@pytest.mark.parametrize("kind", CUT_HEADERS)
def test_a_header_that_is_not_all_there_is_refused(tmp_path: Path, kind: str, capfd) -> None:
    path = save(tmp_path / "a", CUT_HEADERS[kind]())
    with pytest.raises(AsrError, match=r"not audio that can be read|truncated, 0"):
        read(path)
    capfd.readouterr()


def test_a_picture_before_the_sound_is_passed_over(tmp_path: Path) -> None:
    content = encode("flac", SAMPLES)
    samples, damage, notes = read(save(tmp_path / "a.flac", with_picture(content)))
    assert (damage, notes) == ("", ())
    assert np.array_equal(samples, load(save(tmp_path / "b.flac", content)).samples)


@pytest.mark.parametrize("error", [IndexError("index out of range"), struct.error("4 bytes")])
def test_damage_that_nobody_thought_of_is_a_recording_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(window: object) -> None:
        raise error

    monkeypatch.setattr(riff, "layout", fail)
    with pytest.raises(AsrError, match=r"a\.wav: not audio .* \(its header makes no sense\)"):
        load(save(tmp_path / "a.wav", encode("wav", SAMPLES)))


def test_a_stream_whose_rate_changes_keeps_its_speed(tmp_path: Path) -> None:
    content = encode("aac", SAMPLES) + encode("aac", sound(2.0, 32000), 32000)
    samples, damage, _ = read(save(tmp_path / "a.aac", content))
    assert (damage, len(samples) / RATE) == ("", pytest.approx(5.0, abs=0.3))


# MPEG layer II, transport streams and AAC without a container promise nothing: a cut between two of
# their frames cannot be seen.
PROMISING = [kind for kind in (*SOUNDFILE, *MEDIA) if kind not in ("mp2", "ts", "aac", "wmv")]


@pytest.mark.parametrize("kind", PROMISING)
@slow_files
@given(fraction=st.floats(0.3, 0.95))
def test_a_cut_is_said_and_what_is_there_is_read(tmp_path, kind, fraction) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(SECONDS * RATE))
    content = encode(kind, noise.astype(np.float32))
    path = save(tmp_path / "a", content[: int(fraction * len(content))])
    if kind == "m4a":  # its index is at its end
        with pytest.raises(AsrError, match="not audio that can be read"):
            read(path)
        return
    samples, damage, notes = read(path)
    assert "truncated" in damage
    assert notes[-1] == damage
    page = 0.1 if kind in LENGTH_FIELDS else 0.8
    assert fraction * SECONDS - page <= len(samples) / RATE <= SECONDS
    with pytest.raises(AsrError, match="truncated"):
        load(path)
    with pytest.raises(AsrError, match="truncated"), open_recording(path) as recording:
        list(stream(recording, RATE))


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_a_cut_anywhere_in_the_header_of_a_page_is_a_cut(tmp_path: Path, kind: str) -> None:
    content = encode(kind, SAMPLES)
    page = content.rindex(b"OggS")
    for more in range(1, 60):
        assert read(save(tmp_path / "a", content[: page + more]))[1].startswith("truncated")


@pytest.mark.parametrize("kind", ["flac", "ogg", "opus", "vbr.mp3"])
def test_damage_inside_is_said(tmp_path: Path, kind: str, capfd) -> None:
    content = encode(kind, SAMPLES)
    middle = 2 * len(content) // 3
    path = save(tmp_path / "a", content[:middle] + b"\x55" * 900 + content[middle + 900 :])
    samples, damage, _ = read(path)
    assert "damaged" in damage
    assert len(samples) >= 0.9 * RATE
    capfd.readouterr()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("m4a", "a.mp3"), ("mp3", "a.wav"), ("flac", "a.ogg"), ("webm", "a.flac"), ("wav", "a.mp4")],
)
def test_content_decides_and_not_the_suffix(tmp_path: Path, kind: str, name: str) -> None:
    recording = load(save(tmp_path / name, encode(kind, SAMPLES)))
    assert recording.seconds == pytest.approx(SECONDS, abs=0.1)


def test_a_folder_has_all_that_can_be_read_and_says_what_else_there_is(tmp_path: Path) -> None:
    names = {kind: f"{number}.{kind}" for number, kind in enumerate(MEDIA) if kind != "wmv"}
    names |= {"wav": "no suffix", "flac": "a.dat", "mp3": "a.mpga", "opus": "a.audio"}
    (tmp_path / "in").mkdir()
    for kind, name in names.items():
        save(tmp_path / "in" / name, encode(kind, sound(0.5)))
    for name in ("code.ts", "a.txt", "b.pdf"):
        (tmp_path / "in" / name).write_text("const words: string = 'no sound'")
    (tmp_path / "linked").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "loop").symlink_to(tmp_path, target_is_directory=True)
    skipped: list[Path] = []
    found = find([tmp_path / "linked"], skipped.append)
    assert {item.path.name for item in found} == set(names.values())
    assert sorted(path.name for path in skipped) == ["a.txt", "b.pdf", "code.ts"]
    for item in found:
        assert load(item.path).seconds >= 0.45


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a", "mp3"])
def test_a_pipe_is_read_whole(tmp_path: Path, kind: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(encode(kind, SAMPLES)))
    writer.start()
    assert load(pipe).seconds == pytest.approx(SECONDS, abs=0.1)
    writer.join()
    reading, writing = os.pipe()
    writer = threading.Thread(
        target=lambda: (os.write(writing, encode(kind, sound(0.5))), os.close(writing))
    )
    writer.start()
    assert load(f"/dev/fd/{reading}").seconds == pytest.approx(0.5, abs=0.1)
    writer.join()
    os.close(reading)


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a"])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_channels_that_cancel_each_other_are_not_mixed(
    tmp_path: Path, kind: str, noise: float
) -> None:
    hiss = noise * sound(SECONDS, seed=1)
    path = save(tmp_path / "a", encode(kind, np.stack([SAMPLES + hiss, hiss - SAMPLES], 1)))
    samples, _, notes = read(path)
    assert notes == ("2 channels cancel each other: the loudest taken",)
    assert np.square(samples).mean() == pytest.approx(np.square(SAMPLES).mean(), rel=0.3)


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a"])
def test_one_channel_can_be_chosen(tmp_path: Path, kind: str) -> None:
    left, right = SAMPLES, 0.3 * sound(SECONDS, seed=1)
    path = save(tmp_path / "a", encode(kind, np.stack([left, right], 1)))
    for channel, expected in ((1, left), (2, right)):
        chosen = load(path, RATE, channel)
        assert chosen.notes == (f"channel {channel} of 2 taken",)
        power = np.square(chosen.samples).mean()
        assert power == pytest.approx(np.square(expected).mean(), rel=0.3)
    with pytest.raises(AsrError, match="has 2 channels, no channel 3"):
        load(path, RATE, 3)


def test_the_default_track_of_a_container_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        tracks = [container.add_stream("aac", rate=RATE, layout="mono") for _ in range(2)]
        tracks[0].disposition, tracks[1].disposition = 0, av.stream.Disposition.default
        for track, amplitude in zip(tracks, (0.01, 0.5), strict=True):
            tone = amplitude * np.sin(np.arange(1024) / 5)[None].astype(np.float32)
            for number in range(20):
                frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = RATE, 1024 * number
                container.mux(track.encode(frame))
            container.mux(track.encode())
    recording = load(path)
    assert recording.notes == ("2 audio tracks: the default one taken",)
    assert np.abs(recording.samples).max() > 0.3
