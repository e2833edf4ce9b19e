"""The check of a mix: what is left out, what is put right, and how both are counted; files that are no mix."""

import json
from pathlib import Path

import pytest
from PIL import Image

from lib.errors import DataError
from lib.submissions.dataengine import mix, toy
from lib.submissions.dataengine.mix import Finding, check_mix, read_mix
from lib.submissions.dataengine.toy import ToySizes, write_toy_data

IMAGE = "gqa/images/1.jpg"


def turns(*texts: str) -> list[dict]:
    """Human and assistant by turns."""
    return [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)]


def sample(*texts: str, **changes: object) -> dict:
    return {"id": "1", "image": IMAGE, "conversations": turns(*texts)} | changes


WHOLE = sample("<image>\nWhat?", "A box.", "Where?", "There.")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / IMAGE).parent.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / IMAGE)
    return tmp_path


def check_one(root: Path, given: dict) -> tuple[list[dict] | None, list[str]]:
    """The turns that are kept, None if the sample is not, and the reasons."""
    kept, findings = check_mix([given], root)
    assert all(finding == Finding(finding.reason, mix.source_of(given), "1") for finding in findings)
    return (kept[0]["conversations"] if kept else None), [finding.reason for finding in findings]


def test_a_whole_sample_stays_as_it_is(root: Path):
    assert check_mix([WHOLE], root) == ([WHOLE], [])


def test_text_only_samples_stay_as_they_are_even_with_a_placeholder(root: Path):
    text = {"id": "t", "model": "", "conversations": turns("Write <image> here.", "<image>")}
    assert check_mix([text], root) == ([text], [])
    assert mix.source_of(text) == "text only"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (sample("<image>", "A box.", image="gqa/images/2.jpg"), "picture missing"),
        (sample("<image>", "A box.", image="gqa/images"), "picture missing"),
        (sample("<image>", "A box.", conversations=[{"from": "user", "value": "<image>"}]), "bad roles"),
        (sample("<image>", "A box.", conversations=turns("<image>", "A box.") + turns("What?", "A box.")[1:]), "turns do not alternate"),
        (sample("<image>\nWhat?", " \n"), "empty answer"),
        (sample("<image>\nWhat?"), "empty answer"),
        (sample(), "empty answer"),
        (sample("What?", "A box."), "placeholder not in exactly one question"),
        (sample("<image>\nWhat?", "A box.", "<image>\nWhere?", "There."), "placeholder not in exactly one question"),
        (sample("What?", "<image>"), "placeholder not in exactly one question"),
    ],
)
def test_what_cannot_be_trained_is_left_out(root: Path, given: dict, reason: str):
    assert check_one(root, given) == (None, [reason])


@pytest.mark.parametrize("content", [b"<html>403</html>", b""])
def test_what_is_no_picture_is_left_out(root: Path, content: bytes):
    (root / IMAGE).write_bytes(content)
    assert check_one(root, WHOLE) == (None, ["not a picture"])


def test_a_gif_with_the_name_of_a_jpg_is_kept_and_counted(root: Path):
    Image.new("P", (4, 4)).save(root / IMAGE, "GIF")
    assert check_one(root, WHOLE) == (WHOLE["conversations"], ["GIF named jpg"])
    named = root / IMAGE.replace("jpg", "gif")
    (root / IMAGE).rename(named)
    assert check_one(root, WHOLE | {"image": IMAGE.replace("jpg", "gif")})[1] == []


@pytest.mark.parametrize(
    ("given", "first", "reason"),
    [
        ("What?\n<image>", "<image>\nWhat?", "placeholder moved to the front"),
        ("What is <image> this?", "<image>\nWhat is  this?", "placeholder moved to the front"),
        ("<image>\n<image>\nWhat?", "<image>\nWhat?", "several placeholders"),
        ("<image>What?<image>", "<image>\nWhat?", "several placeholders"),
    ],
)
def test_the_placeholder_is_put_first(root: Path, given: str, first: str, reason: str):
    assert check_one(root, sample(given, "A box.")) == (turns(first, "A box."), [reason])


def test_a_placeholder_may_stand_in_a_later_question(root: Path):
    assert check_one(root, sample("Hello", "Hello", "<image>\nWhat?", "A box."))[1] == []


def test_an_answer_before_the_first_question_and_a_question_after_the_last_answer_go(root: Path):
    inner = turns("<image>\nWhat?", "A box.")
    given = sample(conversations=[{"from": "gpt", "value": "Hello"}, *inner, {"from": "human", "value": "Where?"}])
    assert check_one(root, given) == (inner, ["leading assistant turn dropped", "last question dropped, it has no answer"])


def test_an_id_that_comes_again_is_kept_and_counted(root: Path):
    kept, findings = check_mix([WHOLE, WHOLE], root)
    assert kept == [WHOLE, WHOLE] and findings == [Finding("duplicate id", "gqa/images", "1")]
    assert not findings[0].drops


def test_the_given_samples_are_not_changed(root: Path):
    given = sample("What?\n<image>", "A box.")
    before = json.dumps(given)
    check_mix([given], root)
    assert json.dumps(given) == before


def test_the_toy_mix_is_counted_by_reason_and_folder(tmp_path: Path):
    write_toy_data(tmp_path, 5, ToySizes(6, 2, 0, 0, 0, 0, 0))
    samples = read_mix(tmp_path / toy.MIX)
    kept, findings = check_mix(samples, tmp_path)
    assert mix.count(findings) == {
        "picture missing": {"coco/train2017": 1},
        "not a picture": {"gqa/images": 1},
        "bad roles": {"vg/VG_100K": 1},
        "turns do not alternate": {"ocr_vqa/images": 1},
        "empty answer": {"coco/train2017": 1},
        "GIF named jpg": {"ocr_vqa/images": 1},
        "leading assistant turn dropped": {"vg/VG_100K_2": 1},
        "placeholder moved to the front": {"gqa/images": 1},
        "several placeholders": {"textvqa/train_images": 1},
        "duplicate id": {"textvqa/train_images": 1},
    }
    assert len(kept) == len(samples) - sum(finding.drops for finding in findings) == 13
    assert mix.count(check_mix(kept, tmp_path)[1]) == {"GIF named jpg": {"ocr_vqa/images": 1}, "duplicate id": {"textvqa/train_images": 1}}


def test_captions_are_of_one_collection_whatever_the_folders_of_their_pictures(tmp_path: Path):
    write_toy_data(tmp_path, 5, ToySizes(0, 0, 7, 0, 0, 0, 0))
    samples = read_mix(tmp_path / toy.CAPTIONS, toy.CAPTION_IMAGES)
    kept, findings = check_mix(samples, tmp_path)
    assert len({Path(sample["image"]).parent for sample in kept}) > 1
    assert {mix.source_of(sample) for sample in kept} == {"LLaVA-Pretrain/images"} and len(kept) == 7
    moved = [sample for sample in samples if not sample["conversations"][0]["value"].startswith("<image>")]
    assert mix.count(findings) == {"placeholder moved to the front": {"LLaVA-Pretrain/images": len(moved)}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '[{"id": "1",\n',
            (
                ":2: not valid JSON at column 1 (Expecting property name enclosed in double quotes); is the file cut off? "
                "bring or make it again"
            ),
        ),
        ('{"id": "1"}', ': found {"id": "1"}, expected a list; bring the published file'),
        ('[["1"]]', ': row 1: found ["1"], expected an object; bring the published file'),
        ('[{"id": "1", "conversations": []}, {"conversations": []}]', ": row 2: no id; bring the published file"),
        ('[{"id": 1.5, "conversations": []}]', ": row 1: id: found 1.5, expected text or a whole number; bring the published file"),
        ('[{"id": 1, "conversations": "hi"}]', ': row 1: conversations: found "hi", expected a list; bring the published file'),
        ('[{"id": 1, "image": null, "conversations": []}]', ": row 1: image: found null, expected text; bring the published file"),
        ('[{"id": 1, "conversations": [{"from": "human"}]}]', ": row 1: turn 1: no value; bring the published file"),
        (
            '[{"id": 1, "conversations": [{"from": "human", "value": 5}]}]',
            (": row 1: turn 1: value: found 5, expected text; bring the published file"),
        ),
        (json.dumps(["x" * 60]), ': row 1: found "' + "x" * 39 + "..., expected an object; bring the published file"),
    ],
)
def test_a_file_that_is_no_mix_is_one_line_with_row_and_field(tmp_path: Path, content: str, message: str):
    path = tmp_path / "mix.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_mix(path)
    assert str(caught.value) == f"{path}{message}"
