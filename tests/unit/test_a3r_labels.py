"""Label files and training tables of a3r: what is read, what is refused and in which words."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import ConfigError, DataError
from lib.submissions.a3r.labels import Label, attribute_phrase, cut_final_dot, numbered_lines, read_labels, shown, split_labels
from lib.submissions.a3r.tables import (
    Counts,
    Row,
    Table,
    build_table,
    compare_counts,
    count_rows,
    label_rows,
    merge_tables,
    read_split,
    read_table,
    read_vehicle_rows,
    write_split,
    write_table,
)

VALUES = ",".join("0" * 21)
AUDI = "abcdefghij.jpg$white Audi.$This is a white Audi."
MAN = f"000001.jpg${VALUES}$A walking man who is a minor, and is standing sideways. He is wearning glasses,a hat."

# Any text that a label field may hold: no separator, no control character, not blank.
FIELD = st.text(st.characters(exclude_characters="$", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30).filter(
    lambda text: text.strip() and not text.startswith("\ufeff")
)
LABELS = st.lists(st.builds(Label, FIELD, FIELD, FIELD), min_size=1, max_size=8, unique_by=lambda label: label.name)
CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), min_size=1, max_size=20).filter(str.strip)


@pytest.fixture
def given_file(tmp_path):
    """A function that writes text into a file and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "given.txt"
        path.write_bytes(text.encode("utf-8"))
        return path

    return write


def refused(read, path: Path) -> str:
    """The message with which `read` refuses the file, without the folder."""
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


def test_a_label_file_is_read_in_order_with_its_captions_untouched(given_file):
    content = read_labels(given_file(f"{AUDI}\n{MAN}\n"))
    assert content.labels[0] == Label("abcdefghij.jpg", "white Audi.", "This is a white Audi.")
    assert [label.kind for label in content.labels] == ["vehicle", "pedestrian"]
    assert content.blank_lines == 0


@pytest.mark.parametrize(("values", "kind"), [(1, "vehicle"), (20, "vehicle"), (21, "pedestrian"), (22, "vehicle")])
def test_exactly_21_values_make_a_pedestrian(values, kind):
    assert Label("000001.jpg", ",".join("1" * values), "A man.").kind == kind


@given(LABELS)
def test_written_labels_are_read_back_and_split_without_loss(labels):
    lines = "".join(f"{label.name}${label.attribute}${label.caption}\n" for label in labels)
    for text in (lines, "\ufeff" + lines, lines.replace("\n", "\r\n"), lines.removesuffix("\n")):
        content = read_from_memory(text)
        assert list(content.labels) == labels
    vehicles, pedestrians = split_labels(labels)
    assert sorted(map(repr, vehicles + pedestrians)) == sorted(map(repr, labels))
    assert all(label.kind == "vehicle" for label in vehicles)


def read_from_memory(text: str):
    """The label file with this content."""

    class Memory:
        """Stands in for a path: all that the reader asks of one is its bytes."""

        def read_bytes(self) -> bytes:
            return text.encode("utf-8")

    return read_labels(Memory())


def test_byte_order_mark_and_crlf_belong_to_the_encoding(given_file):
    content = read_labels(given_file(f"\ufeff{AUDI}\r\n{MAN}\r\n"))
    assert content.labels[0].name == "abcdefghij.jpg"
    assert content.labels[0].caption.endswith("Audi.")
    assert content.blank_lines == 0


def test_unusual_line_separators_stay_inside_a_caption(given_file):
    (label,) = read_labels(given_file("abcdefghij.jpg$white Audi.$A white\u2028Audi.\n")).labels
    assert label.caption == "A white\u2028Audi."
    assert numbered_lines(given_file("")) == []


def test_blank_lines_are_skipped_and_counted(given_file):
    content = read_labels(given_file(f"\n{AUDI}\n   \n\r\n{MAN}\n\n"))
    assert (len(content.labels), content.blank_lines) == (2, 4)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000001.jpg$x.", "2 field(s) between $ signs in '000001.jpg$x.'; expected 3: name$attribute$caption"),
        ("just text", "1 field(s) between $ signs in 'just text'; expected 3: name$attribute$caption"),
        ("a.jpg$Bus.$A Bus.$more", "4 field(s) between $ signs in 'a.jpg$Bus.$A Bus.$more'; expected 3: name$attribute$caption"),
        ("$Bus.$A Bus.", "empty name in '$Bus.$A Bus.'; expected 3 filled fields: name$attribute$caption"),
        ("a.jpg$ $A Bus.", "empty attribute in 'a.jpg$ $A Bus.'; expected 3 filled fields: name$attribute$caption"),
        ("a.jpg$Bus.$", "empty caption in 'a.jpg$Bus.$'; expected 3 filled fields: name$attribute$caption"),
        ("a.jpg$Bus.$A\tBus.", r"control character '\t' in the caption 'A\tBus.'; replace it by a blank"),
        ("a.jpg$Bus.$A\rBus.", r"control character '\r' in the caption 'A\rBus.'; replace it by a blank"),
        ("abcdefghij.jpg$Bus.$A Bus.", "image 'abcdefghij.jpg' is already on line 1; keep one line per image"),
    ],
)
def test_a_bad_label_line_is_named_with_its_number_and_what_is_right(given_file, line, message):
    assert refused(read_labels, given_file(f"{AUDI}\n\n{line}\n{MAN}\n")) == f"given.txt:3: {message}"


def test_further_bad_lines_are_named_by_number(given_file):
    two = refused(read_labels, given_file(f"x\n{AUDI}\ny\n"))
    assert two == "given.txt:1: 1 field(s) between $ signs in 'x'; expected 3: name$attribute$caption (and 1 more bad line(s): 3)"
    many = refused(read_labels, given_file("x\n" * 9))
    assert many.endswith("(and 8 more bad line(s): 2, 3, 4, 5, 6, ...)")


def test_an_empty_label_file_and_a_missing_one_are_errors(given_file, tmp_path):
    empty = "given.txt: no label in this file; expected one line name$attribute$caption per image"
    assert refused(read_labels, given_file("")) == empty
    assert refused(read_labels, given_file("\n\n")) == empty
    assert refused(read_labels, tmp_path / "absent.txt") == "absent.txt: no such file; bring it, or make it again"


def test_long_values_are_cut_in_messages():
    assert shown("x" * 60) == repr("x" * 60)
    assert shown("x" * 61) == repr("x" * 57 + "...")


def test_only_a_dot_is_cut_when_corrected():
    assert [cut_final_dot(text, final_dot="corrected") for text in ("white Audi.", "white Audi", "..", "")] == [
        "white Audi",
        "white Audi",
        ".",
        "",
    ]
    assert [cut_final_dot(text, final_dot="as_published") for text in ("white Audi.", "white Audi", "")] == [
        "white Audi",
        "white Aud",
        "",
    ]
    with pytest.raises(ConfigError) as caught:
        cut_final_dot("x", final_dot="fixed")
    assert str(caught.value) == "final_dot is 'fixed'; it is one of: as_published, corrected"


def test_a_vehicle_phrase_is_the_first_comma_part_and_a_pedestrians_values_stay():
    assert attribute_phrase(Label("a.jpg", "white Audi.", "x"), final_dot="corrected") == "white Audi"
    assert attribute_phrase(Label("a.jpg", "white Audi,SUV.", "x"), final_dot="corrected") == "white Audi"
    assert attribute_phrase(Label("a.jpg", "white Audi,SUV.", "x"), final_dot="as_published") == "white Aud"
    assert attribute_phrase(Label("000001.jpg", VALUES, "x"), final_dot="as_published") == VALUES


def test_split_tables_are_read_back_as_labels(tmp_path):
    labels = [Label("a.jpg", "white Audi.", 'A "white" Audi.'), Label("000001.jpg", VALUES, "A man.")]
    write_split(tmp_path / "split.txt", labels, final_dot="corrected")
    assert (tmp_path / "split.txt").read_text().splitlines()[1] == f"000001.jpg\t{VALUES}\tA man."
    assert read_split(tmp_path / "split.txt") == [Label("a.jpg", "white Audi", 'A "white" Audi.'), labels[1]]


def test_a_split_row_without_three_cells_is_refused(given_file):
    message = refused(read_split, given_file("a.jpg\tBus\tA Bus.\r\nb.jpg\tBus\r\n"))
    assert message == "given.txt:2: 2 cell(s) in 'b.jpg' ...; expected 3: name, attribute, caption"


def test_vehicle_rows_take_the_last_field_and_count_blank_lines(given_file):
    path = given_file("a.jpg$white Audi$A white Audi$white Audi SUV\n\nb.jpg$Bus.$A Bus.\n")
    rows, blank_lines = read_vehicle_rows(path, "data/datasets/train/train_images")
    folder = "data/datasets/train/train_images"
    assert rows == [Row(f"{folder}/a.jpg", "white Audi SUV"), Row(f"{folder}/b.jpg", "A Bus.")]
    assert blank_lines == 1
    assert read_vehicle_rows(path, "root/")[0][0].filepath == "root/a.jpg"


@pytest.mark.parametrize("line", ["just text", "$A Bus.", "a.jpg$Bus.$ "])
def test_a_vehicle_line_without_name_or_caption_is_refused(given_file, line):
    message = refused(lambda path: read_vehicle_rows(path, "root"), given_file(f"{AUDI}\n{line}\n"))
    assert message == f"given.txt:2: no name or no caption in {line!r}; expected name$...$caption"


def test_merged_tables_keep_vehicles_first_repetitions_and_the_texts_na_and_none(tmp_path):
    vehicles = build_table([Row("a.jpg", "NA"), Row("a.jpg", "NA"), Row("b.jpg", "None")])
    pedestrians = build_table(label_rows([Label("000001.jpg", VALUES, "A man.")], "people"))
    write_table(tmp_path / "train.csv", merge_tables(vehicles, pedestrians))
    assert (tmp_path / "train.csv").read_text() == ("filepath\ttitle\na.jpg\tNA\na.jpg\tNA\nb.jpg\tNone\npeople/000001.jpg\tA man.\n")
    assert read_table(tmp_path / "train.csv").rows == vehicles.rows + pedestrians.rows


def test_tables_with_other_columns_are_not_merged():
    wider = Table(("filepath", "title", "source"), ())
    for name, tables in (("vehicle", (wider, build_table([]))), ("pedestrian", (build_table([]), wider))):
        with pytest.raises(DataError) as caught:
            merge_tables(*tables)
        assert str(caught.value) == (f"{name} table has the columns filepath, title, source; to be merged it must have: filepath, title")


@given(st.lists(st.builds(Row, CELL, CELL), max_size=8))
def test_a_written_table_is_read_back_cell_by_cell(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "round.tsv"
    write_table(path, build_table(rows))
    assert read_table(path) == build_table(rows)


def test_a_table_may_have_further_columns_any_order_and_the_two_character_tab(given_file):
    path = given_file("\ufefftitle\tsource\tfilepath\r\n007\tx\ta.jpg\r\n\r\n")
    for separator in ("\t", r"\t"):
        assert read_table(path, separator=separator) == Table(("title", "source", "filepath"), (Row("a.jpg", "007"),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "given.txt: empty file; expected a header with filepath and title, then one row per picture"),
        ("filepath,caption\n", "given.txt:1: no column 'title' in the header; it has: 'filepath', 'caption'"),
        (
            "filepath,title\na.jpg,A man, old.\n",
            "given.txt:2: 3 cell(s) where the header has 2; quote a cell that holds the separator",
        ),
        ("filepath,title\na.jpg\n", "given.txt:2: 1 cell(s) where the header has 2; quote a cell that holds the separator"),
        ("filepath,title\n\na.jpg,\n", "given.txt:3: empty title; every row needs a picture and a caption"),
        ("filepath,title\n ,A man.\n", "given.txt:2: empty filepath; every row needs a picture and a caption"),
        (
            'filepath,title\na.jpg,"A man.\n',
            "given.txt:2: not a readable row (unexpected end of data); is a quotation mark left open?",
        ),
    ],
)
def test_a_bad_table_is_refused_with_its_line(given_file, text, message):
    assert refused(lambda path: read_table(path, separator=","), given_file(text)) == message


def test_a_separator_is_one_character(given_file):
    with pytest.raises(ConfigError) as caught:
        read_table(given_file("filepath,title\n"), separator="::")
    assert str(caught.value) == r"separator is '::'; it must be one character (or \t for a tab)"


def test_rows_are_counted_by_name_and_compared_with_what_is_expected():
    table = build_table([Row("x/abcdefghij.jpg", "a"), Row("x/000001.jpg", "b"), Row("x/000002.jpg", "c")])
    counts = count_rows(table)
    assert (counts, counts.total) == (Counts(vehicles=1, pedestrians=2), 3)
    assert compare_counts(counts, Counts(1, 2)) == []
    assert compare_counts(Counts(42_704, 83_413), Counts(42_704, 83_413)) == []
    assert compare_counts(Counts(3_371, 6_587), Counts(3_413, 6_587)) == [
        "vehicles: 3,371 rows, expected 3,413 (-42)",
        "total: 9,958 rows, expected 10,000 (-42)",
    ]
