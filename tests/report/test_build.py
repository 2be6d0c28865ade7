"""The whole report: page, plots and the sections of RESULTS.md, the same bytes every time."""

from html.parser import HTMLParser

import pytest
from report_records import plain_record, whole_grid, write_all

from asr.errors import AsrError
from asr.report import report

MARKERS = "<!-- asr report: sparsity -->", "<!-- end: sparsity -->"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    grid = whole_grid({"spoken test": 1.0, "real <speech>": 3.0})
    grid[0]["label"] = "GRU <script>alert(1)</script> & co"
    report(write_all(folder / "records", grid), folder / "out")
    return folder, grid


def test_report_of_the_same_records_is_the_same_to_the_byte(whole, tmp_path):
    folder, grid = whole
    written = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    assert sorted(written) == [
        *("plot.png", "plot.svg", "pruning.png", "pruning.svg"),
        *("report.html", "table.csv", "table.md"),
    ]
    again = report(write_all(tmp_path / "records", grid[::-1]), tmp_path / "out")
    assert {path.name: path.read_bytes() for path in again} == written
    for name in ("plot.svg", "plot.png"):
        assert b"atplotlib v" not in written[name]
        assert b"<dc:date" not in written[name]


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.text = [], [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open += [] if tag == "meta" else [tag]
        for key, value in attributes:
            self.ids += [value] if key == "id" else []
            self.links += [value] if key in ("href", "src", "xlink:href") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_data(self, data):
        self.text += data


def test_the_page_has_no_external_references_and_escapes_all_text(whole):
    page = _Page()
    page.feed((whole[0] / "out" / "report.html").read_text())
    assert page.open == []
    assert page.tags.count("svg") == 2
    assert page.tags.count("table") == 3
    assert "script" not in page.tags
    assert "GRU <script>alert(1)</script> & co" in page.text
    assert "real <speech>" in page.text
    assert len(set(page.ids)) == len(page.ids)
    assert page.links
    assert all(link[0] == "#" and link[1:] in page.ids for link in page.links)


def test_second_run_touches_no_file(tmp_path):
    records = write_all(tmp_path / "out", [plain_record(tests={})])
    results = tmp_path / "RESULTS.md"
    results.write_text("\n".join(MARKERS))
    paths = report(records, tmp_path / "out", results)
    before = {path: path.stat().st_mtime_ns for path in paths}
    assert results in before
    report(records, tmp_path / "out", results)
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_only_the_part_between_the_markers_is_rewritten(tmp_path):
    results = tmp_path / "recipes" / "RESULTS.md"
    folder = tmp_path / "recipes" / "results" / "sparsity"
    write_all(folder, [plain_record()])
    outside = "# Results\n\nProse.\n", "\n<!-- end: other -->\nMore prose, no newline at the end"
    results.write_text(f"{outside[0]}{MARKERS[0]}\nold figures\n{MARKERS[1]}{outside[1]}")

    report(folder, folder, results)

    text = results.read_text()
    assert text.startswith(outside[0] + MARKERS[0])
    assert text.endswith(MARKERS[1] + outside[1])
    assert "old figures" not in text
    assert "](results/sparsity/plot.png)" in text
    assert "| GRU 128, dense | 713,824 | 0.0 | 20.0 (18.4-21.6) |" in text
    assert "[Commands, settings and every tensor](results/sparsity/)" in text
    assert "asr train" not in text
    whole = (folder / "table.md").read_text()
    assert "](plot.png)" in whole
    assert "`asr train recipes/spoken.yaml name=dense-128 model.hidden=128 seed=1`" in whole


@pytest.mark.parametrize("text", ["", MARKERS[0], "\n".join(MARKERS[::-1]), "\n".join(MARKERS * 2)])
def test_missing_markers_are_named_and_no_file_is_changed(tmp_path, text):
    results = tmp_path / "RESULTS.md"
    results.write_text(text)
    records = write_all(tmp_path / "records", [plain_record(tests={})])
    with pytest.raises(AsrError, match=f"{MARKERS[0]}\n{MARKERS[1]}"):
        report(records, tmp_path / "out", results)
    assert results.read_text() == text
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "RESULTS.md").write_bytes(b"caf\xe9\n")
    records = write_all(tmp_path / "records", [plain_record(tests={})])
    with pytest.raises(AsrError, match=r"RESULTS\.md: not a text in UTF-8"):
        report(records, tmp_path / "out", tmp_path / "RESULTS.md")


def test_records_of_two_recipes_cannot_use_the_same_markers(tmp_path):
    plain = [plain_record("a", tests={}), plain_record("b", tests={}, recipe="demo")]
    results = tmp_path / "RESULTS.md"
    results.write_text("\n".join(MARKERS))
    with pytest.raises(AsrError, match="several recipes"):
        report(write_all(tmp_path / "records", plain), tmp_path / "out", results)
