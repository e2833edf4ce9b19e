"""The files that dataengine writes for servers: what a model may say must not keep one from being written."""

from pathlib import Path

from openpyxl import load_workbook

from lib import files
from lib.submissions.dataengine import minigpt4, uploads


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


def test_what_minigpt4_v2_answered_is_handed_in_as_its_half_reads_it(tmp_path: Path):
    annotation = {"questions": [{"question_id": "1"}, {"question_id": "2"}]}
    lines = [{"question_id": 1, "text": "b. left"}, {"question_id": 2, "text": ""}]
    (path,) = uploads.write("seed", annotation, minigpt4.read_answers("seed", lines), tmp_path)
    assert files.read_jsonl(path) == [{"question_id": "1", "prediction": "B"}, {"question_id": "2", "prediction": ""}]
    rows = [{"index": 1, "question": "Where?", "A": "left", "B": "right"}]
    (path,) = uploads.write("mmbench", rows, minigpt4.read_answers("mmbench", [{"question_id": 1, "text": "b. On the Right"}]), tmp_path)
    assert load_workbook(path).active["E2"].value == "B. on the right"
