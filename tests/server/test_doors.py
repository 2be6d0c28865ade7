"""Who may ask: tokens, other web sites; what is logged and counted; the page's files."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from served import Served, in_thread, recording

from asr.errors import AsrError
from asr.server import fields
from asr.server.log import JsonFormatter
from asr.server.options import ServerOptions, read_tokens
from asr.server.page import POLICY

ADDRESS = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def closed(tone: Path) -> Iterator[Served]:
    """A server with two tokens, and a friendly web site."""
    options = ServerOptions(models=(str(tone),), allow_origins=("https://friend.example",))
    with in_thread(options, ("first-token", "zweites-wört")) as server:
        yield server


def test_a_token_opens_the_server_and_a_wrong_one_does_not(closed: Served) -> None:
    file = ("a.wav", recording())
    for token in ("first-token", "zweites-wört"):
        with closed.http() as client:
            headers = {"authorization": f"Bearer {token}".encode()}
            assert client.get("/v1/models", headers=headers).status_code == 200
    client = closed.openai("first-token")
    assert client.audio.transcriptions.create(file=file, model="tone").text == "BAD CAFE"
    for token in ("first-toke", "first-token2", "FIRST-TOKEN", "x"):
        with pytest.raises(openai.AuthenticationError) as error:
            closed.openai(token).audio.transcriptions.create(file=file, model="tone")
        assert error.value.code == "invalid_api_key"
        assert error.value.response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/tone", "/metrics", "/openapi.json"])
def test_without_a_token_only_the_page_and_health_are_open(closed: Served, path: str) -> None:
    with closed.http() as client:
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"authorization": "Basic x"}).status_code == 401
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/").status_code == 200


def test_who_is_refused_while_sending_sees_why(closed: Served) -> None:
    with closed.http() as client:
        for _ in range(5):
            assert client.post(ADDRESS, content=bytes(5_000_000)).status_code == 401


def test_pages_of_other_web_sites_may_not_use_the_server(closed: Served, served: Served) -> None:
    with served.http() as client:
        files = {"file": ("a.wav", recording())}
        own = {"origin": served.url}
        assert client.post(ADDRESS, files=files, headers=own).status_code == 200
        foreign = client.post(ADDRESS, files=files, headers={"origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert "--allow-origin" in foreign.json()["error"]["message"]
        for origin in ("null", "http://["):
            assert client.post(ADDRESS, files=files, headers={"origin": origin}).status_code == 403
    with closed.http() as client:
        headers = {"origin": "https://friend.example", "authorization": "Bearer first-token"}
        answer = client.post(ADDRESS, files=files, headers=headers)
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        asked = {
            "origin": "https://friend.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        assert client.options(ADDRESS, headers=asked).status_code == 200


def test_tokens_are_read_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    for mark in ("", "\ufeff"):
        file.write_text(f"{mark}# ours\n\n one \ntwo\n", encoding="utf-8")
        assert read_tokens(str(file), "three") == ("one", "two")
    assert read_tokens("", "three") == read_tokens("", " three\n") == ("three",)
    assert read_tokens("", "") == ()
    file.write_text("# none yet\n")
    with pytest.raises(AsrError, match="holds no token"):
        read_tokens(str(file), "")
    with pytest.raises(AsrError, match="ASR_TOKEN: holds no token"):
        read_tokens("", " \n")
    with pytest.raises(AsrError, match="cannot be read: No such file"):
        read_tokens(str(tmp_path / "missing"), "three")


def test_a_request_is_one_json_line_without_contents(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asr.server.requests")
    with served.http() as client:
        form = {"prompt": "my secret", "response_format": "text"}
        client.post(ADDRESS, files={"file": ("secret.wav", recording())}, data=form)
        client.get("/secret/address?token=x")
    lines = [JsonFormatter().format(record) for record in caplog.records]
    first, second = map(json.loads, lines)
    assert first["route"] == ADDRESS
    assert (first["status"], first["model"], first["format"]) == (200, "tone", "text")
    assert first["audio_seconds"] == 1.34
    assert first["bytes"] > 40_000
    assert first["seconds"] >= first["transcribe_seconds"] > 0
    assert (second["route"], second["status"]) == ("other", 404)
    for word in ("secret", "BAD", "CAFE", "127.0.0.1"):
        assert word not in "".join(lines)


def test_a_clients_number_of_a_request_is_used_if_it_is_one(served: Served) -> None:
    with served.http() as client:
        given = client.get("/health", headers={"x-request-id": "abc-1.2"})
        assert given.headers["x-request-id"] == "abc-1.2"
        made = client.get("/health", headers={"x-request-id": "a\tb{}"})
        assert len(made.headers["x-request-id"]) == 16


def test_figures_count_requests_audio_and_what_waits(served: Served) -> None:
    before = served.metric("asr_audio_seconds_total")
    served.openai().audio.transcriptions.create(file=("a.wav", recording()), model="spoken")
    assert abs(served.metric("asr_audio_seconds_total") - before - 1.34) < 0.01
    assert served.metric("asr_transcribing_seconds_total") > 0
    assert served.metric("asr_requests_waiting") == served.metric("asr_requests_running") == 0
    assert served.metric("process_resident_memory_bytes") > 1e7
    with served.http() as client:
        for i in range(3):
            client.get(f"/unknown/{i}")
        text = client.get("/metrics").text
    assert "/unknown" not in text  # a client cannot make new rows


def test_a_mistake_of_ours_is_a_500_without_details(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert served.service is not None

    def broken(*arguments: object) -> None:
        raise RuntimeError("internal detail")

    recogniser = served.service.models.default.recogniser
    monkeypatch.setattr(recogniser, "transcribe", broken)
    with pytest.raises(openai.InternalServerError) as error:
        served.openai().audio.transcriptions.create(file=("a.wav", recording()), model="tone")
    assert "internal detail" not in error.value.message
    assert "RuntimeError" in caplog.text
    assert error.value.response.headers["x-request-id"] in caplog.text
    assert served.service.jobs.admitted == 0


def test_the_page_is_served_under_fixed_names(served: Served) -> None:
    with served.http() as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        same = client.get("/", headers={"if-none-match": page.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        assert client.head("/").status_code == 200
        assert client.get("/page/index.html").content == page.content
        for name in ("../run.py", "..%2frun.py", "%2e%2e/run.py", "/etc/passwd", "none.js"):
            assert client.get(f"/page/{name}").status_code == 404


def test_files_of_the_page_have_the_type_without_which_browsers_do_not_run_them(
    served: Served,
) -> None:
    with served.http() as client:
        for name, kind in (("app.js", "text/javascript"), ("style.css", "text/css")):
            answer = client.get(f"/page/{name}")
            assert answer.headers["content-type"].startswith(kind)
            assert answer.headers["content-security-policy"] == POLICY


def test_only_scripts_and_styles_of_the_page_itself_run() -> None:
    assert "script-src 'self';" in POLICY
    assert "style-src 'self';" in POLICY


def test_the_form_is_described_for_those_who_generate_clients(served: Served) -> None:
    with served.http() as client:
        described = client.get("/openapi.json").json()["paths"]["/v1/audio/transcriptions"]["post"]
    [form] = described["requestBody"]["content"].values()
    for name in form["schema"]["properties"]:
        known = name == "file" or name.removesuffix("[]") in (*fields._ONCE, *fields._LISTS)
        assert known, name
