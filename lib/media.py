"""Video files: the frames with given numbers, what the container says, and writing a small mp4.

Everything goes through PyAV (FFmpeg). A frame's number is its rank by presentation time, from 0; frames are RGB uint8 (H, W, 3).
PyAV is imported where it is used, so that reading a review needs no decoder.
"""

import bisect
import contextlib
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib.errors import ConfigError, DataError
from lib.files import write_bytes

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# One thread makes the bytes of a written video the same on every machine; reading runs in parallel over videos instead.
THREADS = 1
KEYFRAME_EVERY = 30
WRITTEN_QUALITY = "18"  # constant rate factor of H.264, nearly without visible loss
LONGEST_RATE_DENOMINATOR = 1001  # 30000/1001 = 29.97 frames per second


@dataclass(frozen=True)
class VideoFacts:
    """What a video holds: number of frames, frames per second as the container states it (0 if it does not), size in pixels."""

    frames: int
    fps: float
    width: int
    height: int


@dataclass(frozen=True)
class _Timeline:
    """Presentation times of all frames and of the frames decoding may start at, both ascending, in the stream's time base."""

    times: list[int]
    keyframes: list[int]


def decoder_versions() -> dict[str, str]:
    """Name and version of what decodes the videos, for the run record: PyAV and FFmpeg's libavcodec."""
    import av

    return {"PyAV": av.__version__, "libavcodec": ".".join(str(part) for part in av.library_versions["libavcodec"])}


class Video:
    """An open video; `open_video` makes it and closes it."""

    def __init__(self, path: Path, container: "InputContainer") -> None:
        """Look through the packets, without decoding them. Raises DataError if one is broken or has no time."""
        if not container.streams.video:
            raise DataError(f"{path}: no picture stream in this file; a video is expected")
        self._path, self._container, self._stream = path, container, container.streams.video[0]
        self._stream.codec_context.thread_count = THREADS
        self._timeline = _timeline(path, container, self._stream)
        rate = float(self._stream.average_rate or 0)
        self.facts = VideoFacts(len(self._timeline.times), rate, self._stream.width, self._stream.height)

    def read(self, indices: Sequence[int]) -> list[np.ndarray]:
        """As `read_frames`."""
        times, keyframes = self._timeline.times, self._timeline.keyframes
        outside = next((index for index in indices if not 0 <= index < len(times)), None)
        if outside is not None:
            raise DataError(f"{self._path}: no frame {outside}; the video has frames 0 to {len(times) - 1}")
        wanted = sorted({times[index] for index in indices})
        decoded = _decode(self._container, self._stream, wanted, keyframes)
        # A key frame that others reach back over cannot be started from; decoding from the beginning finds every frame.
        if len(decoded) < len(wanted):
            decoded |= _decode(self._container, self._stream, [time for time in wanted if time not in decoded], times[:1])
        for index in indices:
            if times[index] not in decoded:
                raise DataError(f"{self._path}: frame {index} of {len(times)} does not decode; the file is damaged, fetch it again")
        return [decoded[times[index]] for index in indices]


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """The video, open while the block runs, for its facts and frames in one go; what FFmpeg objects to becomes a DataError."""
    import av

    if not path.is_file():
        raise DataError(f"{path}: no such video")
    try:
        with av.open(str(path)) as container:
            yield Video(path, container)
    except av.FFmpegError as error:
        raise DataError(f"{path}: not readable as a video ({error.strerror}); is the file cut off? Fetch it again") from None


def video_facts(path: Path) -> VideoFacts:
    """Facts of a video, its frames counted without decoding them. Raises DataError for a missing, damaged or cut-off file."""
    with open_video(path) as video:
        return video.facts


def read_frames(path: Path, indices: Sequence[int]) -> list[np.ndarray]:
    """The frames with these numbers, in the order asked for, each (H, W, 3) RGB uint8.

    One pass from front to back that leaps over stretches without a wanted frame. Raises DataError for a missing, damaged or
    cut-off file and for a number that the video does not have.
    """
    with open_video(path) as video:
        return video.read(indices)


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write RGB uint8 frames (H, W, 3), all of one even size, as an H.264 mp4; the same frames give the same bytes.

    Whole or not at all. Raises ConfigError without frames, or for odd or differing sizes.
    """
    import av

    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ConfigError(f"{path}: no frame to write; a video needs at least one")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise ConfigError(f"{path}: frames of {width}x{height} pixels; H.264 video needs an even width and height")
    content = io.BytesIO()
    with av.open(content, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = {"crf": WRITTEN_QUALITY, "preset": "veryfast", "threads": str(THREADS)}
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(LONGEST_RATE_DENOMINATOR), options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", KEYFRAME_EVERY
        for frame in itertools.chain([first], frames):
            if frame.shape != first.shape:
                raise ConfigError(f"{path}: a frame of shape {frame.shape} after one of {first.shape}; give all frames one size")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    write_bytes(path, content.getvalue())


def _timeline(path: Path, container: "InputContainer", stream: "VideoStream") -> _Timeline:
    """When each frame is shown and where decoding may start, from the packets alone; DataError if one is broken or untimed."""
    times, keyframes = [], []
    for packet in container.demux(stream):
        if packet.size == 0 or packet.is_discard:
            continue
        if packet.is_corrupt or packet.pts is None:
            raise DataError(f"{path}: breaks off or has no time after frame {len(times)}; is the file cut off? Fetch it again")
        times.append(packet.pts)
        if packet.is_keyframe:
            keyframes.append(packet.pts)
    if not times:
        raise DataError(f"{path}: not a single frame in this video; fetch it again")
    return _Timeline(sorted(times), sorted(keyframes))


def _decode(container: "InputContainer", stream: "VideoStream", wanted: Sequence[int], starts: Sequence[int]) -> dict[int, np.ndarray]:
    """Frames by presentation time, as far as found: `wanted` ascending, decoding begun anew at one of `starts` where that saves work."""
    found: dict[int, np.ndarray] = {}
    position = None
    for target in wanted:
        start = starts[max(bisect.bisect_right(starts, target) - 1, 0)]
        if position is None or start > position:
            container.seek(start, stream=stream)
            decoded = container.decode(stream)
        for frame in decoded:
            position = frame.pts
            if position == target and not frame.is_corrupt:
                found[target] = frame.to_ndarray(format="rgb24")
            if position is not None and position >= target:
                break
    return found
