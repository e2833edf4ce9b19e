"""The files that dataengine writes for servers: what a model may say must not keep one from being written."""

from pathlib import Path

from openpyxl import load_workbook

from lib.submissions.dataengine import uploads


def test_a_spreadsheet_is_written_whatever_characters_an_answer_has(tmp_path: Path):
    rows = [{"index": number, "question": "Where?", "A": "left", "B": "right"} for number in (1, 2)]
    lines = [{"question_id": 1, "text": "A\x00\x1b\nB"}, {"question_id": 2, "text": "B"}]
    (path,) = uploads.write("mmbench", rows, lines, tmp_path)
    sheet = [list(row) for row in load_workbook(path).active.iter_rows(values_only=True)]
    assert sheet == [
        ["index", "question", "A", "B", "prediction"],
        [1, "Where?", "left", "right", "A��\nB"],
        [2, "Where?", "left", "right", "B"],
    ]
