"""What the store compares on every use: results by their digests, whatever lies in their place."""

import os
from pathlib import Path

from lib import files, store


def _place(folder: Path) -> Path:
    for name in ("scores.json", "media/b/2.png", "media/a.png", "media/.hidden/3.png", ".lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_files_are_listed_in_the_order_of_their_paths_without_hidden_ones(tmp_path: Path) -> None:
    place = _place(tmp_path / "place")
    assert [str(path.relative_to(place)) for path in files.list_files(place)] == ["media/a.png", "media/b/2.png", "scores.json"]
    assert files.list_files(tmp_path / "nowhere") == []


def test_a_result_that_is_not_what_it_was_is_named(kit_home: Path) -> None:
    place = _place(kit_home / "place")
    digests = store.result_digests(place)
    assert sorted(digests) == ["media", "scores.json"]
    assert store.changed_files(place, digests) == []
    (place / "media" / "a.png").write_text("other")
    assert store.changed_files(place, digests) == ["media"]
    (place / "scores.json").unlink()
    assert store.changed_files(place, digests) == ["scores.json", "media"]


def test_what_is_neither_file_nor_folder_counts_as_missing(kit_home: Path) -> None:
    place = _place(kit_home / "place")
    digests = store.result_digests(place)
    for put in (lambda path: path.symlink_to(path.name), os.mkfifo):
        (place / "scores.json").unlink()
        put(place / "scores.json")
        assert store.changed_files(place, digests) == ["scores.json"]
    assert store.changed_files(place / "scores.json", {"below": digests["scores.json"]}) == ["below"]
