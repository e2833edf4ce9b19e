"""The augmented label file of a3r: reading, resuming after any interruption, audit; and the published files themselves."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import DataError, DiskFull
from lib.submissions.a3r.augmented import (
    AugmentedAppender,
    AugmentedRow,
    audit_augmented,
    build_row,
    read_augmented,
    write_augmented,
)
from lib.submissions.a3r.labels import Label
from lib.submissions.a3r.vocabulary import Vocabulary, read_vocabulary

SMALL = Vocabulary(colors=("black", "red"), types=("Bus", "SUV", "Truck"), brands=("Audi", "Balong Heavy Truck"))
ROWS = [
    AugmentedRow("aaaaaaaaaa.jpg", "black Audi", "A black Audi", "black Audi SUV"),
    AugmentedRow("bbbbbbbbbb.jpg", "Bus", "This is a Bus", "red Audi Bus"),
    AugmentedRow("cccccccccc.jpg", "Balong Heavy Truck", "A Balong Heavy Truck", "red Balong Heavy Truck Truck"),
    AugmentedRow("dddddddddd.jpg", "Bus", "Ä Büs", "black Audi Bus"),
]
TEXT = "".join(f"{row.line}\n" for row in ROWS).encode()
real_data = pytest.mark.skipif("PODIUM_REAL_DATA" not in os.environ, reason="PODIUM_REAL_DATA does not name the published files")

# specs/a3r.md 2.3, "Shipped outcome, train"
FILLED_TYPES = {"Sedan": 18_402, "SUV": 10_961, "Truck": 3_300, "Minivan": 2_690, "Bus": 681, "Microbus": 647}
FILLED_COLORS = {"grey": 1_450, "white": 1_325, "red": 987, "blue": 840, "green": 746, "yellow": 377, "black": 304, "orange": 250}
FILLED_COLORS |= {"brown": 223, "pink": 32, "purple": 31}
FILLED_BRANDS = {"Balong Heavy Truck": 1_034, "Hongyan": 892, "Shacman": 395, "Yutong": 348, "Shuanghuan": 308}


def real_file(name: str) -> Path:
    """A published file of a3r."""
    return Path(os.environ["PODIUM_REAL_DATA"]) / "a3r" / name


def refused(content: bytes, path: Path) -> str:
    """The message with which the content of an augmented file is refused, without the folder."""
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_augmented(path)
    assert path.read_bytes() == content
    return str(caught.value).replace(f"{path.parent}/", "")


def test_an_augmented_file_is_written_and_read_back(tmp_path):
    path = tmp_path / "augmented.txt"
    write_augmented(path, ROWS)
    assert path.read_bytes() == TEXT
    assert read_augmented(path).rows == tuple(ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n\n"))
    content = read_augmented(path)
    assert (content.rows, content.blank_lines) == (tuple(ROWS), 4)


def test_a_row_is_built_with_the_dots_of_its_convention():
    label = Label("a.jpg", "black Audi.", "A black Audi.")
    assert build_row(label, "black Audi SUV", convention="shipped") == AugmentedRow("a.jpg", "black Audi", "A black Audi", "black Audi SUV")
    assert build_row(label, "A black Audi SUV", convention="readme").chosen == "A black Audi SUV."


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg$Bus$A Bus", "3 field(s) between $ signs in 'a.jpg$Bus$A Bus'; expected 4: name$attribute$caption$choice"),
        ("a.jpg$Bus$A Bus$", "empty choice in 'a.jpg$Bus$A Bus$'; expected 4 filled fields: name$attribute$caption$choice"),
        ("a.jpg$Bus$A\tBus$x", r"control character '\t' in the caption 'A\tBus'; replace it by a blank"),
        ("aaaaaaaaaa.jpg$Bus$A Bus$x", "image 'aaaaaaaaaa.jpg' is augmented twice; remove one of the two lines"),
    ],
)
def test_a_bad_augmented_line_is_refused_with_its_number(tmp_path, line, message):
    assert refused(TEXT + line.encode() + b"\n", tmp_path / "augmented.txt") == f"augmented.txt:5: {message}"


def test_a_last_line_without_line_end_is_refused_when_only_read(tmp_path):
    assert refused(TEXT[:-3], tmp_path / "augmented.txt") == (
        "augmented.txt: the last line has no line end, so it may be half-written; run the augmentation again, it will resume"
    )


@given(cut=st.integers(0, len(TEXT)), batch=st.integers(1, 5))
def test_appending_after_any_cut_gives_the_same_file(tmp_path_factory, cut, batch):
    path = tmp_path_factory.getbasetemp() / "resumed.txt"
    path.write_bytes(TEXT[:cut])
    with AugmentedAppender(path) as appender:
        whole_lines = TEXT[:cut].count(b"\n")
        assert len(appender.done) == whole_lines
        assert appender.dropped == (TEXT[:cut] != b"" and not TEXT[:cut].endswith(b"\n"))
        written = sum(appender.append(ROWS[start : start + batch]) for start in range(0, len(ROWS), batch))
    assert written == len(ROWS) - whole_lines
    assert path.read_bytes() == TEXT


def test_a_second_run_adds_nothing(tmp_path):
    path = tmp_path / "folder" / "augmented.txt"
    for expected in (4, 0):
        with AugmentedAppender(path) as appender:
            assert appender.append(ROWS + ROWS) == expected
            assert appender.append(ROWS) == 0
    assert path.read_bytes() == TEXT


def test_each_batch_is_on_disk_as_soon_as_it_is_appended(tmp_path):
    path = tmp_path / "augmented.txt"
    with AugmentedAppender(path) as appender:
        appender.append(ROWS[:2])
        assert read_augmented(path).rows == tuple(ROWS[:2])
        appender.append(ROWS[2:])
    assert path.read_bytes() == TEXT


def test_rows_of_other_labels_are_not_mixed_in(tmp_path):
    path = tmp_path / "augmented.txt"
    write_augmented(path, ROWS)
    other = AugmentedRow("aaaaaaaaaa.jpg", "Bus", "A Bus", "red Audi Bus")
    with AugmentedAppender(path) as appender, pytest.raises(DataError) as caught:
        appender.append([other])
    assert str(caught.value) == (
        f"{path}: image 'aaaaaaaaaa.jpg' is there with the caption 'A black Audi', now it has 'A Bus'; "
        "the file belongs to other labels, remove it and start again"
    )
    assert path.read_bytes() == TEXT
    with AugmentedAppender(tmp_path / "other.txt") as appender, pytest.raises(DataError, match="belongs to other labels"):
        appender.append([ROWS[0], other])
    assert (tmp_path / "other.txt").read_bytes() == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_clear_error():
    with AugmentedAppender(Path("/dev/full")) as appender, pytest.raises(DiskFull) as caught:
        appender.append(ROWS)
    assert str(caught.value).startswith("/dev: no space left on this disk;")
    assert appender.done == {}


def test_a_write_that_breaks_off_leaves_no_half_line(tmp_path):
    class Breaking:
        """A stream that writes ten bytes and then finds the disk full."""

        def __init__(self, stream):
            self.stream = stream
            self.left = 10

        def write(self, content):
            if not self.left:
                raise OSError(28, "No space left on device")
            count, self.left = min(self.left, len(content)), 0
            return self.stream.write(content[:count])

        def __getattr__(self, name):
            return getattr(self.stream, name)

    path = tmp_path / "augmented.txt"
    with AugmentedAppender(path) as appender:
        appender.append(ROWS[:1])
        stream = appender._stream
        appender._stream = Breaking(stream)
        with pytest.raises(DiskFull):
            appender.append(ROWS[1:])
        assert path.read_bytes() == f"{ROWS[0].line}\n".encode()
        appender._stream = stream
        assert appender.append(ROWS) == 3
    assert path.read_bytes() == TEXT


def test_the_audit_counts_what_was_filled_and_names_what_is_wrong():
    bad = [
        AugmentedRow("eeeeeeeeee.jpg", "black Audi", "A black Audi", "red Audi Bus"),  # colour changed
        AugmentedRow("ffffffffff.jpg", "black Audi", "A black Audi", "black Audi"),  # type still missing
    ]
    audit = audit_augmented([*ROWS[:3], *bad], SMALL, convention="shipped")
    assert (audit.rows, audit.distinct_choices) == (5, 4)  # red Audi Bus twice
    assert audit.filled == {"colors": {"red": 2}, "brands": {"Audi": 1}, "types": {"SUV": 1, "Truck": 1, "Bus": 1}}
    assert audit.brand_filled
    assert (audit.outside, audit.changed, audit.incomplete) == (
        ("eeeeeeeeee.jpg", "ffffffffff.jpg"),
        ("eeeeeeeeee.jpg",),
        ("ffffffffff.jpg",),
    )


def test_the_audit_follows_the_convention_it_is_given():
    rows = [
        build_row(Label("a.jpg", "Bus.", "A Bus."), "A red Bus", convention="readme"),
        build_row(Label("b.jpg", "black Audi.", "An black Audi."), "An black Audi SUV", convention="readme"),
    ]
    audit = audit_augmented(rows, SMALL, convention="readme")
    assert (audit.outside, audit.changed, audit.brand_filled, audit.incomplete) == ((), (), False, ("a.jpg",))
    assert audit_augmented(rows, SMALL, convention="shipped").outside == ("a.jpg", "b.jpg")


@real_data
def test_every_published_choice_is_a_candidate_and_changes_nothing_known():
    vocabulary = read_vocabulary(real_file("car_attribute.json"))
    checked = 0
    for split in ("train", "val"):
        rows = read_augmented(real_file(f"augmented_ViT-bigG-14_{split}_label.txt")).rows
        audit = audit_augmented(rows, vocabulary, convention="shipped")
        assert (audit.outside, audit.changed, audit.incomplete) == ((), (), ())
        checked += audit.rows
    assert checked == 46_075


@real_data
def test_the_published_train_file_was_filled_as_the_spec_counts():
    rows = read_augmented(real_file("augmented_ViT-bigG-14_train_label.txt")).rows
    audit = audit_augmented(rows, read_vocabulary(real_file("car_attribute.json")), convention="shipped")
    assert (audit.rows, audit.distinct_choices) == (42_704, 2_472)
    assert audit.filled["types"] == FILLED_TYPES
    assert audit.filled["colors"] == FILLED_COLORS
    assert list(audit.filled["brands"].items())[:5] == list(FILLED_BRANDS.items())
    assert (len(audit.filled["brands"]), sum(audit.filled["brands"].values())) == (64, 6_023)
    assert audit.brand_filled


@real_data
def test_published_files_are_written_back_byte_by_byte(tmp_path):
    for split in ("train", "val"):
        source = real_file(f"augmented_ViT-bigG-14_{split}_label.txt")
        rows = read_augmented(source).rows
        write_augmented(tmp_path / "copy.txt", rows)
        assert (tmp_path / "copy.txt").read_bytes() == source.read_bytes()
        rebuilt = [build_row(Label(row.name, f"{row.attribute}.", f"{row.caption}."), row.chosen, convention="shipped") for row in rows]
        assert tuple(rebuilt) == rows
