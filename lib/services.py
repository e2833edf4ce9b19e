"""Outside language models: the same requests go to an offline stand-in or to any endpoint that speaks OpenAI's chat interface.

What an endpoint answered is kept, one JSON line per request with a seal over the line, so that an interrupted run goes on where
it stopped and a finished one is replayed without endpoint or key. Failures are outcomes too: counted, kept, and fatal only when
nothing else comes. The key is nowhere but in the Authorization header.
"""

import contextlib
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urlsplit

from lib.errors import ConfigError, DataError, MissingInput, ServiceError
from lib.files import cut_last_line, digest, disk_full

if TYPE_CHECKING:
    from openai import OpenAI

logger = logging.getLogger(__name__)

URL_VARIABLE, KEY_VARIABLE = "PODIUM_LLM_URL", "PODIUM_LLM_KEY"
RETRIES = 5  # of openai's client, which waits 0.5, 1, 2, 4, 8 s, or as long as the server's Retry-After says
GIVE_UP_AFTER = 20  # failures in a row: the endpoint is gone, or refuses everything
LONGEST_DETAIL = 200  # characters
RESERVED = {"model", "messages", "n", "stream"}
DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,")

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Request:
    """One question to a language model: chat messages in OpenAI's form (pictures as data URLs), and how it is to be answered.

    `parameters` go into the request's body as they are (temperature, max_tokens, ...); none means the model's own.
    Raises ConfigError for a parameter that would change what an answer is.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]

    def __post_init__(self) -> None:
        reserved = sorted(RESERVED & set(self.parameters))
        if reserved:
            raise ConfigError(f"{reserved[0]!r} is no parameter of a request to a language model; the kit sets it, leave it out")

    def record(self) -> dict[str, Any]:
        """What is kept of the request: all of it, but of a picture only its sha256."""
        return {"model": self.model, "messages": _without_pictures(self.messages), "parameters": dict(self.parameters)}

    @property
    def key(self) -> str:
        """sha256 (hex) over prompt, model and parameters: requests with the same key have the same answer."""
        return digest(self.record())


@dataclass(frozen=True)
class Outcome:
    """What became of a request: its text, or None and the reason of the failure (to count by) with what the server said."""

    text: str | None
    failure: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Endpoint:
    """Where a language model answers: the address before /chat/completions, and the key, empty where none is wanted."""

    url: str
    key: str = field(repr=False)


class Service(Protocol):
    """Whoever answers requests."""

    def ask(self, requests: Sequence[Request], progress: Progress) -> list[Outcome]:
        """One outcome per request, in order; `progress` hears how many are done."""


@dataclass(frozen=True)
class Offline:
    """The stand-in that needs no network: a function from request to text, given by the submission."""

    stand_in: Callable[[Request], str]

    def ask(self, requests: Sequence[Request], progress: Progress) -> list[Outcome]:
        """One outcome per request, in order."""
        outcomes = []
        for done, request in enumerate(requests, start=1):
            outcomes.append(Outcome(self.stand_in(request)))
            progress(done)
        return outcomes


@dataclass(frozen=True)
class Online:
    """An endpoint behind the file of its answers so far; without an endpoint the file has to hold every answer.

    `at_once` requests run at the same time; one that says nothing for `timeout` seconds is repeated, RETRIES times.
    """

    endpoint: Endpoint | None
    answers: Path
    at_once: int
    timeout: float

    def ask(self, requests: Sequence[Request], progress: Progress) -> list[Outcome]:
        """One outcome per request, in order. Equal requests are asked once, and what is on file is not asked again.

        Raises MissingInput if answers are missing and no endpoint is given, ServiceError if no request got a text or the endpoint
        failed GIVE_UP_AFTER times in a row.
        """
        keys = [request.key for request in requests]
        known = read_answers(self.answers)
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in known}
        if missing and self.endpoint is None:
            raise MissingInput(
                f"{self.answers} lacks {len(missing)} of {len(set(keys))} answers and no endpoint is set; put its address into "
                f"{URL_VARIABLE} and its key into {KEY_VARIABLE}, or choose the offline stand-in"
            )
        times = Counter(keys)
        found = {key: known[key] for key in times if key in known}
        done = sum(times[key] for key in found)
        progress(done)
        with contextlib.closing(self._fetch(missing, dict(found))) as fetched:
            for key, outcome in fetched:
                found[key] = outcome
                done += times[key]
                progress(done)
        outcomes = [found[key] for key in keys]
        if outcomes and all(outcome.text is None for outcome in outcomes):
            raise self._refusal(outcomes, requests[0].model)
        failures = count_failures(outcomes)
        if failures:
            logger.warning(
                "%d of %d requests failed (%s); to ask again, delete their lines from %s",
                *(failures.total(), len(outcomes), _listed(failures), self.answers),
            )
        return outcomes

    def _fetch(self, missing: Mapping[str, Request], found: Mapping[str, Outcome]) -> Iterator[tuple[str, Outcome]]:
        """(key, outcome) of each missing request as it comes; `found` are the outcomes that were on file.

        Texts are on file before they are handed on. Failures wait for the next text, which shows that the endpoint is alive: what
        failed in an outage is not on file, and so asked again.
        """
        if not missing:
            return
        if cut_last_line(self.answers):
            logger.info("%s: the last line is cut off; its request is asked again", self.answers)
        waiting: list[tuple[Request, Outcome]] = []
        alive = any(outcome.text is not None for outcome in found.values())
        with _client(self.endpoint, self.timeout) as client, _pool(self.at_once) as pool:
            asked = {pool.submit(_ask, client, request, self.endpoint): key for key, request in missing.items()}
            for future in as_completed(asked):
                key, outcome = asked[future], future.result()
                waiting.append((missing[key], outcome))
                if outcome.text is not None:
                    alive = True
                    append_answers(self.answers, waiting)
                    waiting.clear()
                if len(waiting) == GIVE_UP_AFTER:
                    raise self._refusal([outcome for _, outcome in waiting], missing[key].model)
                yield key, outcome
        if alive:
            append_answers(self.answers, waiting)

    def _refusal(self, outcomes: Sequence[Outcome], model: str) -> ServiceError:
        """The error when nothing but failures comes: who failed, how often and why, in the server's words."""
        place = self.endpoint.url if self.endpoint else f"{self.answers} (no endpoint set)"
        said = next((f"; it said: {outcome.detail}" for outcome in reversed(outcomes) if outcome.detail), "")
        return ServiceError(
            f"{place}: all {len(outcomes)} answers in a row failed ({_listed(count_failures(outcomes))}){said}; check {URL_VARIABLE}, "
            f"{KEY_VARIABLE} and the model {model!r}, then give the same command again: answers so far are kept in {self.answers}"
        )


def open_service(
    service: Literal["offline", "endpoint"], stand_in: Callable[[Request], str], answers: Path, *, at_once: int, timeout: float
) -> Service:
    """The offline stand-in, or the endpoint that the environment names behind the answers on file."""
    if service == "offline":
        return Offline(stand_in)
    return Online(read_endpoint(os.environ), answers, at_once=at_once, timeout=timeout)


def read_endpoint(environment: Mapping[str, str]) -> Endpoint | None:
    """The endpoint that PODIUM_LLM_URL and PODIUM_LLM_KEY name, None without an address. Raises ConfigError, showing neither value."""
    url, key = (environment.get(name, "").strip() for name in (URL_VARIABLE, KEY_VARIABLE))
    if not url:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0  # a bad port raises
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{URL_VARIABLE} is no http address; give what stands before /chat/completions, such as https://host/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(f"{URL_VARIABLE} holds more than scheme, host and path; a key belongs into {KEY_VARIABLE}, nowhere else")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{KEY_VARIABLE} holds a blank or another character that no key has; paste it again")
    return Endpoint(url, key)


def count_failures(outcomes: Sequence[Outcome]) -> Counter[str]:
    """How many requests failed for which reason."""
    return Counter(outcome.failure for outcome in outcomes if outcome.failure is not None)


def read_answers(path: Path) -> dict[str, Outcome]:
    """The outcomes on file by key of their request, none if there is no file; a last line cut off by a kill is left out.

    Raises DataError naming a line that is not as the kit wrote it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    outcomes = {}
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
            seal = record.pop("seal")
            outcome = Outcome(record.pop("text"), record.pop("failure"), record.pop("detail"))
        except (ValueError, KeyError, AttributeError):
            raise DataError(f"{path}:{number}: not a line of answers; delete it, and its request is asked again") from None
        if seal != _seal(record, outcome):
            raise DataError(f"{path}:{number}: changed after it was written; delete the line, and its request is asked again")
        outcomes[digest(record)] = outcome
    return outcomes


def append_answers(path: Path, answered: Sequence[tuple[Request, Outcome]]) -> None:
    """Append one sealed line per request and outcome. Raises DiskFull."""
    lines = []
    for request, outcome in answered:
        record = request.record()
        line = {**record, "text": outcome.text, "failure": outcome.failure, "detail": outcome.detail, "seal": _seal(record, outcome)}
        lines.append(json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(b"".join(lines))
    except OSError as error:
        raise disk_full(error, path.parent) from error


def _seal(record: Mapping[str, Any], outcome: Outcome) -> str:
    """sha256 (hex) over a request's record and its outcome."""
    return digest([record, outcome.text, outcome.failure, outcome.detail])


@contextlib.contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that do not outlive an error or an interrupt by more than the request they are in."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _client(endpoint: Endpoint, timeout: float) -> "OpenAI":
    """A client of the endpoint that retries; an endpoint without a key is sent a word in its place."""
    from openai import OpenAI

    return OpenAI(base_url=endpoint.url, api_key=endpoint.key or "none", timeout=timeout, max_retries=RETRIES)


def _ask(client: "OpenAI", request: Request, endpoint: Endpoint) -> Outcome:
    """Ask once, with the client's retries; every failure of server or network becomes an outcome."""
    import openai

    try:
        # Unknown parameters are the endpoint's business, hence in the body. The raw answer, as not everything that says 200 is one.
        raw = client.chat.completions.with_raw_response.create(
            model=request.model, messages=list(request.messages), extra_body=dict(request.parameters)
        )
        text = _read_text(raw.http_response.text)
    except openai.APITimeoutError:
        return Outcome(None, "time-out")
    except openai.APIConnectionError as error:
        return _failure("no connection", str(error.__cause__ or error), endpoint)
    except openai.APIStatusError as error:
        return _failure(f"status {error.status_code}", error.response.text, endpoint)
    except ValueError as error:
        return _failure("unreadable answer", str(error), endpoint)
    if not text.strip():
        return Outcome(None, "empty answer")
    if endpoint.key and endpoint.key in text:
        return Outcome(None, "answer repeats the key")
    return Outcome(text)


def _read_text(body: str) -> str:
    """The text of a chat completion, empty if the model said nothing. Raises ValueError with the body if it is none."""
    try:
        text = json.loads(body)["choices"][0]["message"].get("content") or ""
        text.encode("utf-8")  # half of a surrogate pair can be sent, but not kept
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError(body) from None
    return text


def _failure(reason: str, detail: str, endpoint: Endpoint) -> Outcome:
    """A failed outcome whose detail is one short line without the key."""
    secret_free = detail.replace(endpoint.key, "***") if endpoint.key else detail
    line = " ".join(secret_free.split()).encode("utf-8", "replace").decode("utf-8")
    return Outcome(None, reason, line if len(line) <= LONGEST_DETAIL else line[: LONGEST_DETAIL - 3] + "...")


def _without_pictures(value: Any) -> Any:
    """Messages as plain JSON data in which the sha256 of a base64 data URL stands for its content."""
    if isinstance(value, Mapping):
        return {name: _without_pictures(part) for name, part in value.items()}
    if isinstance(value, str):
        start = DATA_URL.match(value)
        return f"{start.group()}sha256:{sha256(value.encode()).hexdigest()}" if start else value
    return [_without_pictures(part) for part in value] if isinstance(value, Sequence) else value


def _listed(failures: Counter[str]) -> str:
    """Reasons with their counts, the most frequent first."""
    return ", ".join(f"{reason} x {count}" for reason, count in failures.most_common())
