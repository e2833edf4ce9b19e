"""Video files: exact frames by number, facts, deterministic writing, and one clear line for every kind of broken file."""

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from lib import media
from lib.errors import ConfigError, DataError

HEIGHT, WIDTH = 32, 48
UNREADABLE = "not readable as a video (Invalid data found when processing input); is the file cut off? Fetch it again"


def grey_frames(count: int) -> list[np.ndarray]:
    """Frames whose grey level tells their number: 20 + 3 * number."""
    return [np.full((HEIGHT, WIDTH, 3), 20 + 3 * number, np.uint8) for number in range(count)]


def numbers(frames: list[np.ndarray]) -> list[int]:
    """The numbers that the grey levels of decoded frames tell."""
    return [round((float(frame.mean()) - 20) / 3) for frame in frames]


@functools.cache
def noise_mp4() -> bytes:
    """The bytes of a video of 80 frames of noise, which no codec can shrink much: damage then hits pictures."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "noise.mp4"
        media.write_video(video, (draw.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(80)), 30.0)
        return video.read_bytes()


def damaged_in_the_middle() -> bytes:
    """The video of noise with 3000 bytes of its second third turned over."""
    content, third = noise_mp4(), len(noise_mp4()) // 3
    return content[:third] + bytes(255 - byte for byte in content[third : third + 3000]) + content[third + 3000 :]


def index_first(source: Path, target: Path) -> Path:
    """The same video with its index before its pictures, as videos made for the web have it."""
    with av.open(str(source)) as reading, av.open(str(target), "w", options={"movflags": "faststart"}) as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for packet in reading.demux(reading.streams.video[0]):
            if packet.size:
                packet.stream = stream
                writing.mux(packet)
    return target


# --- reading ---


def test_frames_come_in_the_order_asked_for_and_as_rgb(tmp_path: Path):
    video = tmp_path / "a.mp4"
    media.write_video(video, grey_frames(60), 10.0)
    frames = media.read_frames(video, [59, 0, 5, 30, 5])
    assert numbers(frames) == [59, 0, 5, 30, 5]
    assert {(frame.shape, frame.dtype) for frame in frames} == {((HEIGHT, WIDTH, 3), np.dtype(np.uint8))}


def test_red_green_and_blue_keep_their_places(tmp_path: Path):
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    media.write_video(tmp_path / "a.mp4", [np.full((HEIGHT, WIDTH, 3), colour, np.uint8) for colour in colours], 5.0)
    for frame, colour in zip(media.read_frames(tmp_path / "a.mp4", [0, 1, 2]), colours, strict=True):
        assert np.abs(frame.mean(axis=(0, 1)) - colour).max() < 6


def test_leaping_to_key_frames_finds_the_very_frames_that_plain_decoding_finds(tmp_path: Path):
    video = tmp_path / "a.mp4"
    video.write_bytes(noise_mp4())
    with av.open(str(video)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for wanted in ([0], [79], [31, 68], [29, 30, 31, 62], list(range(80))):
        for index, frame in zip(wanted, media.read_frames(video, wanted), strict=True):
            assert np.array_equal(frame, plain[index]), f"frame {index} of {wanted}"


def test_stretches_without_a_wanted_frame_are_leapt_over_even_where_they_are_damaged(tmp_path: Path):
    video = tmp_path / "a.mp4"
    video.write_bytes(damaged_in_the_middle())
    assert [frame.shape for frame in media.read_frames(video, [0, 79])] == [(HEIGHT, WIDTH, 3)] * 2


def test_frames_behind_a_key_frame_one_cannot_start_from_are_still_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    video = tmp_path / "a.mp4"
    media.write_video(video, grey_frames(30), 10.0)
    timeline = media._timeline

    def misleading(*given: object) -> media._Timeline:
        found = timeline(*given)
        return media._Timeline(found.times, [found.times[0], found.times[20]])

    monkeypatch.setattr(media, "_timeline", misleading)
    assert numbers(media.read_frames(video, [3, 29])) == [3, 29]


def test_facts_count_the_frames_and_name_rate_and_size(tmp_path: Path):
    media.write_video(tmp_path / "a.mp4", grey_frames(7), 30000 / 1001)
    facts = media.video_facts(tmp_path / "a.mp4")
    assert (facts.frames, round(facts.fps, 3), facts.width, facts.height) == (7, 29.97, WIDTH, HEIGHT)


def test_the_decoder_names_itself_for_the_run_record():
    assert media.decoder_versions()["PyAV"] == av.__version__
    assert media.decoder_versions()["libavcodec"].count(".") == 2


def test_no_frames_asked_for_are_no_frames(tmp_path: Path):
    media.write_video(tmp_path / "a.mp4", grey_frames(3), 5.0)
    assert media.read_frames(tmp_path / "a.mp4", []) == []


def test_facts_and_frames_come_from_one_opening(tmp_path: Path):
    media.write_video(tmp_path / "a.mp4", grey_frames(6), 5.0)
    with media.open_video(tmp_path / "a.mp4") as video:
        assert numbers(video.read([video.facts.frames - 1])) == [5]
        assert numbers(video.read([0, 2])) == [0, 2]


# --- broken files: both readers say the same ---


@pytest.mark.parametrize("read", [media.video_facts, lambda path: media.read_frames(path, [0])], ids=["facts", "frames"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such video"),
        (b"", UNREADABLE),
        (b"hello" * 100, UNREADABLE),
        (noise_mp4()[: len(noise_mp4()) // 2], UNREADABLE),
    ],
    ids=["missing", "empty", "text", "cut off before its index"],
)
def test_broken_file_is_one_clear_line(tmp_path: Path, read: Callable[[Path], object], content: bytes | None, problem: str):
    video = tmp_path / "a.mp4"
    if content is not None:
        video.write_bytes(content)
    with pytest.raises(DataError) as error:
        read(video)
    assert str(error.value) == f"{video}: {problem}"


@pytest.mark.parametrize(("kept", "frame"), [(0.5, 39), (0.999, 79)])
def test_video_with_its_index_first_and_its_end_missing_is_cut_off(tmp_path: Path, kept: float, frame: int):
    (tmp_path / "a.mp4").write_bytes(noise_mp4())
    whole = index_first(tmp_path / "a.mp4", tmp_path / "b.mp4").read_bytes()
    video = tmp_path / "c.mp4"
    video.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(DataError) as error:
        media.read_frames(video, [0])
    assert str(error.value) == f"{video}: breaks off or has no time after frame {frame}; is the file cut off? Fetch it again"


def test_damage_in_the_middle_is_named_and_not_painted_over(tmp_path: Path):
    video = tmp_path / "a.mp4"
    video.write_bytes(damaged_in_the_middle())
    with pytest.raises(DataError) as error:
        media.read_frames(video, list(range(80)))
    assert str(error.value) == f"{video}: {UNREADABLE}"


def test_a_number_outside_the_video_names_the_range(tmp_path: Path):
    video = tmp_path / "a.mp4"
    media.write_video(video, grey_frames(5), 5.0)
    for index in (5, -1):
        with pytest.raises(DataError) as error:
            media.read_frames(video, [0, index])
        assert str(error.value) == f"{video}: no frame {index}; the video has frames 0 to 4"


def test_sound_without_pictures_is_no_video(tmp_path: Path):
    sound = tmp_path / "a.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(DataError) as error:
        media.video_facts(sound)
    assert str(error.value) == f"{sound}: no picture stream in this file; a video is expected"


# --- writing ---


def test_the_same_frames_give_the_same_bytes(tmp_path: Path):
    for name in ("a.mp4", "b.mp4"):
        media.write_video(tmp_path / name, (frame for frame in grey_frames(20)), 10.0)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    ("frames", "problem"),
    [
        ([], "no frame to write; a video needs at least one"),
        ([np.zeros((31, 48, 3), np.uint8)], "frames of 48x31 pixels; H.264 video needs an even width and height"),
        (
            [np.zeros((32, 48, 3), np.uint8), np.zeros((32, 50, 3), np.uint8)],
            "a frame of shape (32, 50, 3) after one of (32, 48, 3); give all frames one size",
        ),
    ],
    ids=["none", "odd", "differing"],
)
def test_frames_that_make_no_video_leave_no_file(tmp_path: Path, frames: list[np.ndarray], problem: str):
    video = tmp_path / "a.mp4"
    with pytest.raises(ConfigError) as error:
        media.write_video(video, frames, 10.0)
    assert str(error.value) == f"{video}: {problem}"
    assert list(tmp_path.iterdir()) == []
