"""Query texts, result files, merging and the submission validator of a3r."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import ConfigError, DataError
from lib.submissions.a3r.queries import (
    SUFFIX,
    Problem,
    Result,
    encoded_text,
    find_problems,
    merge_ordered,
    merge_published,
    read_results,
    rerank_query,
    results_text,
    strip_article,
    write_results,
)
from lib.submissions.a3r.vocabulary import Query

LINES = ["A Bus.", "A man.", "An Audi."]
GALLERY = ["vehicle_0000001.jpg", "vehicle_0000002.jpg", "090001.jpg"]
VALID = {"results": [{"text": line, "image_names": GALLERY[:2]} for line in LINES]}


def changed(index: int, **entry) -> dict:
    """The valid submission with one entry changed."""
    results = [dict(result) for result in VALID["results"]]
    results[index].update(entry)
    return {"results": results}


@pytest.mark.parametrize(
    ("line", "convention", "text"),
    [
        ("This is a grey Chery Sedan.", "plain", "This is a grey Chery Sedan"),
        ("This is a grey Chery Sedan.", "strip", "grey Chery Sedan"),
        ("This is a grey Chery Sedan.", "suffix", "This is a grey Chery Sedan image taken by traffic surveillance cameras"),
        ("  An orange Ford SUV. ", "strip", "orange Ford SUV"),
        ("This is an Audi.", "strip", "Audi"),
        ("A A Truck.", "strip", "A Truck"),
        ("a white Audi.", "strip", "a white Audi"),
        ("A red Benz", "strip", "red Benz"),
        ("", "plain", ""),
    ],
)
def test_a_query_is_encoded_by_its_convention(line, convention, text):
    assert encoded_text(line, convention=convention, final_dot="corrected") == text


def test_as_published_the_last_character_goes_whatever_it_is():
    assert encoded_text("A red Benz", convention="strip", final_dot="as_published") == "red Ben"
    assert encoded_text("A red Benz.", convention="strip", final_dot="as_published") == "red Benz"


@given(st.text(st.characters(exclude_categories=("Cs",))), st.sampled_from(["plain", "strip", "suffix"]))
def test_with_a_final_dot_both_ways_of_cutting_agree(sentence, convention):
    texts = {encoded_text(f"{sentence}.", convention=convention, final_dot=rule) for rule in ("as_published", "corrected")}
    assert len(texts) == 1
    assert texts.pop().endswith(SUFFIX) or convention != "suffix"


def test_unknown_query_conventions_are_refused():
    with pytest.raises(ConfigError) as caught:
        encoded_text("A Bus.", convention="prompt", final_dot="corrected")
    assert str(caught.value) == "no query convention 'prompt'; it is one of: plain, strip, suffix"


@given(st.text())
def test_an_article_is_removed_once_and_only_from_the_front(sentence):
    for article in ("A ", "An ", "This is a ", "This is an "):
        assert strip_article(article + sentence) == sentence
    assert strip_article("x" + sentence) == "x" + sentence


def test_reranking_drops_the_article_only_before_vehicle_images():
    results = [
        Result("A Bus.", ("vehicle_1.jpg", "1.jpg", "2.jpg")),
        Result("A Bus.", ("1.jpg", "vehicle_1.jpg")),
        Result("A Bus.", ()),
    ]
    assert rerank_query(results, 0, candidates=2, final_dot="corrected") == Result("Bus", ("vehicle_1.jpg", "1.jpg"))
    assert rerank_query(results, 1, candidates=50, final_dot="corrected") == Result("A Bus", ("1.jpg", "vehicle_1.jpg"))
    assert rerank_query(results, 2, candidates=50, final_dot="corrected") == Result("A Bus", ())
    for index in (-1, 3):
        with pytest.raises(DataError) as caught:
            rerank_query(results, index, candidates=50, final_dot="corrected")
        assert str(caught.value) == f"no entry {index} in a result file of 3; expected 0 to 2"


def test_the_result_file_has_the_published_layout(tmp_path):
    path = tmp_path / "submission.json"
    write_results(path, [Result("Ein grünes Auto.", ("000001.jpg",))])
    assert path.read_text() == (
        '{\n    "results": [\n        {\n            "text": "Ein gr\\u00fcnes Auto.",\n            "image_names": [\n'
        '                "000001.jpg"\n            ]\n        }\n    ]\n}'
    )
    assert read_results(path) == [Result("Ein grünes Auto.", ("000001.jpg",))]
    assert results_text([]) == '{\n    "results": []\n}'


@given(st.lists(st.builds(Result, st.text(), st.lists(st.text()).map(tuple))))
def test_result_files_are_read_back(tmp_path_factory, results):
    path = tmp_path_factory.getbasetemp() / "results.json"
    write_results(path, results)
    assert read_results(path) == results
    assert path.read_bytes().isascii()


@given(st.lists(st.booleans(), max_size=12))
def test_the_ordered_merge_follows_the_query_file_and_the_published_one_puts_vehicles_first(is_vehicle):
    parts = {True: ([], []), False: ([], [])}
    for index, vehicle in enumerate(is_vehicle):
        parts[vehicle][0].append(Query(index, f"query {index}"))
        parts[vehicle][1].append(Result(f"query {index}", (f"{index}.jpg",)))
    ordered = merge_ordered([parts[True], parts[False]])
    published = merge_published(parts[True][1], parts[False][1])
    assert [entry.text for entry in ordered] == [f"query {index}" for index in range(len(is_vehicle))]
    assert sorted(published, key=lambda entry: int(entry.text.split()[1])) == ordered
    assert (published == ordered) == (sorted(is_vehicle, reverse=True) == is_vehicle)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([([Query(0, "A Bus.")], [])], "0 results for 1 queries; each query needs one, infer this part again"),
        ([([Query(0, "A Bus.")], [Result("A man.", ())])], "result 'A man.' stands for query 0 'A Bus.'; infer this part again"),
        ([([Query(0, "x")], [Result("x", ())])] * 2, "query 0 'x' is in two parts; route the queries again"),
        ([([Query(1, "x")], [Result("x", ())])], "no part holds query 0; route the queries again"),
    ],
)
def test_parts_that_do_not_fit_together_are_not_merged(parts, message):
    with pytest.raises(DataError) as caught:
        merge_ordered(parts)
    assert str(caught.value) == message


def test_a_valid_submission_has_no_problems():
    assert find_problems(VALID, LINES, GALLERY, top_k=2) == []
    assert find_problems(VALID, [f" {line}\n" for line in LINES], set(GALLERY), top_k=2) == []


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], Problem(None, "list", "found 'list'; expected one key 'results' with a list")),
        ({}, Problem(None, "", "found ''; expected one key 'results' with a list")),
        (
            {"results": [], "team": 1},
            Problem(None, "results, team", "found 'results, team'; expected one key 'results' with a list"),
        ),
        ({"results": {}}, Problem(None, "results", "found 'results'; expected one key 'results' with a list")),
        (
            {"results": VALID["results"][:2]},
            Problem(None, "2", "2 entries for 3 queries; expected one per line of the query file"),
        ),
        (
            {"results": [*VALID["results"], VALID["results"][0]]},
            Problem(None, "4", "4 entries for 3 queries; expected one per line of the query file"),
        ),
        ({"results": [7, *VALID["results"][1:]]}, Problem(0, "int", "entry 0: found 'int'; expected the keys text, image_names")),
        (
            changed(1, score=0.5),
            Problem(1, "text, image_names, score", "entry 1: found 'text, image_names, score'; expected the keys text, image_names"),
        ),
        (changed(2, text=None), Problem(2, "None", "entry 2: text is None; expected the query sentence")),
        (changed(2, image_names="a.jpg"), Problem(2, "a.jpg", "entry 2: image_names is 'a.jpg'; expected a list of file names")),
        (
            changed(1, text="A man"),
            Problem(1, "A man", "entry 1: text 'A man' is not line 2 of the query file, 'A man.'; keep order and wording"),
        ),
        (changed(0, image_names=GALLERY), Problem(0, "3", "entry 0: 3 image names; expected exactly 2")),
        (changed(0, image_names=[]), Problem(0, "0", "entry 0: 0 image names; expected exactly 2")),
        (
            changed(2, image_names=["090001.jpg", "090001.jpg"]),
            Problem(2, "090001.jpg", "entry 2: '090001.jpg' is named twice; names must differ"),
        ),
        (changed(2, image_names=["090001.jpg", "x.jpg"]), Problem(2, "x.jpg", "entry 2: 'x.jpg' is no image of the gallery")),
    ],
)
def test_each_fault_of_a_submission_is_named_with_index_and_value(document, problem):
    assert find_problems(document, LINES, GALLERY, top_k=2) == [problem]


def test_all_faults_are_listed_not_only_the_first():
    swapped = {"results": [VALID["results"][index] for index in (1, 0, 2)]}
    assert [problem.index for problem in find_problems(swapped, LINES, GALLERY, top_k=2)] == [0, 1]
    assert [problem.index for problem in find_problems(changed(2, text="x"), LINES, GALLERY, top_k=2)] == [2]
    assert len(find_problems(VALID, LINES, [], top_k=3)) == 9


def test_a_broken_or_foreign_result_file_is_one_line(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(results_text([Result("A Bus.", ("a.jpg",))])[:40])
    with pytest.raises(
        DataError, match=r"result\.json:4: not valid JSON at column \d+ \(.*\); is the file cut off\? bring or make it again$"
    ):
        read_results(path)
    path.write_text(json.dumps({"results": [{"text": "x"}]}))
    with pytest.raises(DataError) as caught:
        read_results(path)
    assert str(caught.value) == f"{path}: entry 0: found 'text'; expected the keys text, image_names"
