"""Reading pictures, square padding and the transforms of training and evaluation."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib.errors import ConfigError, DataError
from lib.submissions.a3r import pictures


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    bands = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(width * 1000 + height).integers(1, 256, (height, width, *bands), dtype=np.uint8)
    return Image.fromarray(pixels)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["L", "RGB", "RGBA"]))
def test_published_padding_is_at_most_one_pixel_short_of_a_square_and_exact_padding_never(width, height, mode):
    picture, longest = noise(width, height, mode), max(width, height)
    published = pictures.pad_to_square(picture, padding="as_published")
    short = abs(width - height) % 2
    assert published.size == ((longest - short, longest) if width < height else (longest, longest - short))
    exact = pictures.pad_to_square(picture, padding="exact")
    assert exact.size == (longest, longest) and exact.mode == mode
    left, top = (longest - width) // 2, (longest - height) // 2
    assert np.array_equal(np.asarray(exact)[top : top + height, left : left + width], np.asarray(picture))
    assert int((np.asarray(exact) > 0).sum()) == int((np.asarray(picture) > 0).sum())


def test_the_odd_pixel_of_exact_padding_is_at_the_right_or_at_the_bottom():
    assert np.asarray(pictures.pad_to_square(noise(1, 2, "L"), padding="exact"))[:, 1].tolist() == [0, 0]
    assert np.asarray(pictures.pad_to_square(noise(4, 1, "L"), padding="exact")).any(axis=1).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_a_palette_picture_is_padded_with_its_own_colour_0_as_in_the_original():
    picture = Image.new("P", (1, 3), 1)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    colours = np.asarray(pictures.pad_to_square(picture, padding="as_published").convert("RGB"))
    assert colours[0].tolist() == [[10, 20, 30], [200, 100, 50], [10, 20, 30]]


def test_no_padding_returns_the_picture_itself():
    picture = noise(3, 7)
    assert pictures.pad_to_square(picture, padding="none") is picture


def test_evaluation_keeps_the_whole_of_a_wide_picture_only_with_padding():
    wide = Image.new("RGB", (60, 20), (255, 0, 0))
    wide.paste((0, 255, 0), (20, 0, 40, 20))  # green middle third, red ends
    shown = {padding: pictures.build_transform(12, train=False, padding=padding)(wide) for padding in ("none", "as_published", "exact")}
    assert all(tensor.shape == (3, 12, 12) and tensor.dtype == torch.float32 for tensor in shown.values())
    red = (1 - pictures.MEAN[0]) / pictures.STD[0]
    black = -pictures.MEAN[0] / pictures.STD[0]
    assert shown["none"][0].max() < 0  # the centre crop has lost both red ends
    assert shown["as_published"][0, 6, 0] == pytest.approx(red, abs=0.05)
    assert shown["as_published"][0, 0, 0] == pytest.approx(black, abs=0.05)
    assert shown["as_published"].equal(shown["exact"])  # an even difference


def test_training_crops_nine_tenths_or_more_by_torchs_generator_and_never_flips():
    transform = pictures.build_transform(16, train=True, padding="as_published")
    ramp = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)))
    torch.manual_seed(0)
    first = [transform(ramp) for _ in range(20)]
    torch.manual_seed(0)
    assert all(tensor.equal(transform(ramp)) for tensor in first)
    assert len({tensor.numpy().tobytes() for tensor in first}) >= 5
    for tensor in first:
        levels = tensor[0].mean(dim=0) * pictures.STD[0] + pictures.MEAN[0]
        assert bool((levels.diff() > 0).all())
        # 90 % of the area at the widest ratio, 3/4, leaves a width of sqrt(0.9 * 3/4) = 0.82 of the picture.
        assert levels[-1] - levels[0] > 0.8 * 15 / 16 * 63 * 4 / 255


def test_both_transforms_are_open_clips_own_behind_the_padding():
    import open_clip

    def steps(transform) -> list[str]:
        return [type(step).__name__ if " at 0x" in repr(step) else repr(step) for step in transform.transforms]

    _, train, evaluate = open_clip.create_model_and_transforms("ViT-B-32", device="meta")
    for theirs, is_train in ((train, True), (evaluate, False)):
        ours = pictures.build_transform(224, train=is_train, padding="exact")
        assert ours.transforms[0] == pictures.SquarePadding("exact")
        assert steps(ours.transforms[1]) == steps(theirs)
        wrapped = pictures.with_padding(theirs, "exact")
        assert wrapped.transforms[0] == pictures.SquarePadding("exact") and wrapped.transforms[1] is theirs


def test_transforms_can_be_sent_to_loader_workers():
    transform = pickle.loads(pickle.dumps(pictures.build_transform(8, train=False, padding="exact")))
    assert transform(noise(5, 9)).shape == (3, 8, 8)


def test_a_picture_is_read_whole_in_its_own_mode(tmp_path: Path):
    for mode, name in (("L", "grey.png"), ("RGBA", "clear.png"), ("RGB", "colour.jpg")):
        noise(9, 5, mode).save(tmp_path / name)
        picture = pictures.read_picture(tmp_path / name)
        assert picture.mode == mode and np.asarray(picture).shape[:2] == (5, 9)


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png", "cut.webp", "cut.gif"])
def test_a_picture_that_breaks_off_is_refused(tmp_path: Path, name: str):
    path = tmp_path / name
    noise(64, 64).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError) as error:
        pictures.read_picture(path)
    assert str(error.value).startswith(f"{path}: ")


def test_messages_of_pictures(tmp_path: Path):
    text, empty, jpeg = tmp_path / "text.jpg", tmp_path / "empty.jpg", tmp_path / "cut.jpg"
    text.write_text("not a picture")
    empty.write_bytes(b"")
    noise(64, 64).save(jpeg)
    content = jpeg.read_bytes()
    jpeg.write_bytes(content[:-100])
    messages = {}
    for path in (text, empty, jpeg, tmp_path / "none.jpg"):
        with pytest.raises(DataError) as error:
            pictures.read_picture(path)
        messages[path.name] = str(error.value).removeprefix(f"{path}: ")
    assert messages["none.jpg"] == "no such picture; copy it there or take its line out of the list"
    assert messages["text.jpg"] == messages["empty.jpg"] == "not a picture; replace it or take it out of the folder"
    assert messages["cut.jpg"].startswith("the picture is cut off or damaged (image file is truncated")
    assert messages["cut.jpg"].endswith("; copy it again")
    with pytest.raises(ConfigError) as error:
        pictures.pad_to_square(noise(2, 2), padding="floor")
    assert str(error.value) == "there is no square padding 'floor'; there are: as_published, exact, none"
