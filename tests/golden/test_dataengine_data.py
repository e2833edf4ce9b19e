"""Golden cases of dataengine's data: where the placeholder of a picture goes, and how ScienceQA is asked."""

import json
from pathlib import Path

from PIL import Image

from lib.submissions.dataengine.benchmarks import read_questions, scienceqa_text
from lib.submissions.dataengine.mix import check_mix
from tests.golden.loading import cases


def test_the_placeholder_goes_where_the_published_code_puts_it(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "1.jpg")
    for case in cases("dataengine", "image_placeholder_normalisation.json")["cases"]:
        turns = [{"from": "human", "value": case["input"]}, {"from": "gpt", "value": case["gpt_out"]}]
        kept, _ = check_mix([{"id": "1", "image": "1.jpg", "conversations": turns}], tmp_path)
        assert [turn["value"] for turn in kept[0]["conversations"]] == [case["output"], case["gpt_out"]]


def test_scienceqa_is_asked_as_the_recorded_predictions_show(tmp_path: Path):
    recorded = cases("dataengine", "scienceqa_prompts.json")
    samples = []
    for key, problem in recorded["problems"].items():
        image = {"image": f"{key}/{problem['image']}"} if problem["image"] else {}
        text = ("<image>\n" if image else "") + scienceqa_text(problem)
        samples.append({"id": key, **image, "conversations": [{"from": "human", "value": text}]})
    path = tmp_path / "eval/scienceqa/llava_test_CQM-A.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(samples))
    asked = {one.question_id: ("<image>\n" if one.image else "") + one.text for one in read_questions(tmp_path, "scienceqa")}
    assert asked == recorded["llava15_eval_prompt_as_recorded_in_predictions"]
