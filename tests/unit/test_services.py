"""Outside language models: what a real server on the loopback does to requests, and what is kept of its answers."""

import contextlib
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import services
from lib.errors import ConfigError, DataError, MissingInput, ServiceError
from lib.files import cut_last_line
from lib.services import Endpoint, Offline, Online, Outcome, Request, append_answers, count_failures, read_answers, read_endpoint

KEY = "sk-never-to-be-seen-0123456789"
PICTURE = "data:image/png;base64,aGVsbG8="


@dataclasses.dataclass(frozen=True)
class Reply:
    """What the server sends back."""

    body: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0


def says(text: object) -> Reply:
    return Reply(json.dumps({"id": "1", "object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": text}}]}))


class Server:
    """A chat endpoint whose replies a test decides; it counts what is asked, and how much of it at once."""

    def __init__(self) -> None:
        self.reply: Callable[[dict], Reply] = lambda body: says(f"answer to {question(body)}")
        self.bodies: list[dict] = []
        self.times: list[float] = []
        self.keys: set[str | None] = set()
        self.running = self.most_running = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.bodies.append(body)
                    server.times.append(time.monotonic())
                    server.keys.add(self.headers["Authorization"])
                    server.running += 1
                    server.most_running = max(server.most_running, server.running)
                reply = server.reply(body)
                time.sleep(reply.seconds)
                with server.lock:
                    server.running -= 1
                content = reply.body.encode("utf-8")
                self.send_response(reply.status)
                for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(content))), *reply.headers):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing on stderr."""

            def finish(self) -> None:
                with contextlib.suppress(OSError):
                    super().finish()

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None  # the client may have given up
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def questions(self) -> list[str]:
        return [question(body) for body in self.bodies]


def question(body: dict) -> str:
    return body["messages"][-1]["content"]


def ask_about(*texts: str, **parameters: object) -> list[Request]:
    return [Request("gpt-4", [{"role": "user", "content": text}], parameters) for text in texts]


def ignore(done: int) -> None:
    """No progress wanted."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Server()
    yield served
    served.http.shutdown()
    served.http.server_close()


@pytest.fixture
def online(server: Server, tmp_path: Path) -> Online:
    return Online(Endpoint(server.url, KEY), tmp_path / "kept" / "answers.jsonl", at_once=3, timeout=5.0)


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "RETRIES", 0)


def offline(service: Online) -> Online:
    """The same file of answers where there is no endpoint."""
    return dataclasses.replace(service, endpoint=None)


def test_the_offline_stand_in_answers_without_any_network():
    heard: list[int] = []
    service = Offline(lambda request: request.messages[0]["content"].upper())
    assert service.ask(ask_about("a", "b"), heard.append) == [Outcome("A"), Outcome("B")]
    assert heard == [1, 2]


def test_a_request_reaches_the_endpoint_as_it_is_and_answers_keep_the_order(server, online):
    server.reply = lambda body: dataclasses.replace(says(question(body)[::-1]), seconds=0.05 if question(body) == "one" else 0)
    heard: list[int] = []
    outcomes = online.ask(ask_about("one", "two", "three", temperature=0.2, top_k=5), heard.append)
    assert [outcome.text for outcome in outcomes] == ["eno", "owt", "eerht"]
    assert heard == [0, 1, 2, 3]
    assert {"model": "gpt-4", "messages": [{"role": "user", "content": "one"}], "temperature": 0.2, "top_k": 5} in server.bodies
    assert server.keys == {f"Bearer {KEY}"}


def test_an_endpoint_without_a_key_is_sent_a_word_in_its_place(server, online):
    dataclasses.replace(online, endpoint=Endpoint(server.url, "")).ask(ask_about("a"), ignore)
    assert server.keys == {"Bearer none"}


def test_equal_requests_are_asked_once(server, online):
    heard: list[int] = []
    outcomes = online.ask(ask_about("a", "b", "a"), heard.append)
    assert [outcome.text for outcome in outcomes] == ["answer to a", "answer to b", "answer to a"]
    assert sorted(server.questions) == ["a", "b"] and heard[-1] == 3


def test_never_more_requests_run_at_once_than_allowed(server, online):
    three = threading.Barrier(3, timeout=20)

    def reply(body: dict) -> Reply:
        three.wait()  # comes back only when three requests are here together
        return says("yes")

    server.reply = reply
    assert online.ask(ask_about(*"abcdefghi"), ignore) == [Outcome("yes")] * 9
    assert server.most_running == 3


def first_time(reply: Reply) -> Callable[[dict], Reply]:
    """Replies with `reply` to the first request, properly from the second on."""
    replies = iter([reply])
    return lambda body: next(replies, says("fine"))


def test_a_429_is_asked_again_after_the_time_that_the_server_names(server, online):
    server.reply = first_time(Reply("{}", 429, (("Retry-After", "1"),)))
    assert online.ask(ask_about("a"), ignore) == [Outcome("fine")]
    assert len(server.times) == 2 and server.times[1] - server.times[0] >= 1.0


@pytest.mark.parametrize("reply", [Reply("oh", 500), Reply("", 503), dataclasses.replace(says("late"), seconds=0.6)])
def test_a_server_error_and_a_time_out_are_asked_again(server, online, reply):
    server.reply = first_time(reply)
    assert dataclasses.replace(online, timeout=0.3).ask(ask_about("a"), ignore) == [Outcome("fine")]
    assert len(server.bodies) == 2


NONSENSE = {
    "page": ("<html>Welcome</html>", "unreadable answer", "<html>Welcome</html>"),
    "cut": ('{"choices": [{"mess', "unreadable answer", '{"choices": [{"mess'),
    "other": ("[1, 2]", "unreadable answer", "[1, 2]"),
    "no choice": ('{"choices": []}', "unreadable answer", '{"choices": []}'),
    "number": (says(3).body, "unreadable answer", says(3).body),
    "half a character": (says("\ud800").body, "unreadable answer", says("\ud800").body),
    "nothing": (says(None).body, "empty answer", ""),
    "blanks": (says(" \n").body, "empty answer", ""),
    "deep": ("[" * 100_000, "unreadable answer", "[" * 197 + "..."),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_a_failure_of_its_request_only(server, online, name):
    body, failure, detail = NONSENSE[name]
    server.reply = lambda asked: Reply(body) if question(asked) == "odd" else says("fine")
    assert online.ask(ask_about("a", "odd", "b"), ignore) == [Outcome("fine"), Outcome(None, failure, detail), Outcome("fine")]


def test_failures_are_counted_by_reason_and_told_once(server, online, no_retries, caplog):
    replies = {"refused": Reply('{"error": {"message": "not this"}}', 400), "busy": Reply("", 503), "slow": Reply("", seconds=1.0)}
    server.reply = lambda body: replies.get(question(body), says("fine"))
    outcomes = dataclasses.replace(online, timeout=0.5).ask(ask_about("a", "refused", "busy", "slow", "b"), ignore)
    assert [outcome.text for outcome in outcomes] == ["fine", None, None, None, "fine"]
    assert count_failures(outcomes) == {"status 400": 1, "status 503": 1, "time-out": 1}
    assert "not this" in outcomes[1].detail
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"3 of 5 requests failed (status 400 x 1, status 503 x 1, time-out x 1); to ask again, delete their lines from {online.answers}"
    ]


def test_a_finished_file_is_replayed_without_endpoint_and_key(server, online, no_retries):
    server.reply = lambda body: Reply("", 400) if question(body) == "odd" else says("fine")
    requests = ask_about("a", "odd", "b")
    outcomes = online.ask(requests, ignore)
    heard: list[int] = []
    assert offline(online).ask(requests, heard.append) == outcomes
    assert online.ask(requests, ignore) == outcomes
    assert heard == [3] and len(server.bodies) == 3


def test_an_answer_belongs_to_prompt_model_and_parameters(server, online):
    (first,) = ask_about("a", temperature=0)
    online.ask([first], ignore)
    for other in (*ask_about("b", temperature=0), dataclasses.replace(first, model="qwen_plus"), *ask_about("a", temperature=1)):
        with pytest.raises(MissingInput) as caught:
            offline(online).ask([first, other], ignore)
    assert str(caught.value) == (
        f"{online.answers} lacks 1 of 2 answers and no endpoint is set; put its address into PODIUM_LLM_URL and its key into "
        "PODIUM_LLM_KEY, or choose the offline stand-in"
    )


def test_pictures_travel_whole_and_are_kept_as_their_digest(server, online):
    server.reply = lambda body: says("a cat")
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    request = Request("gpt-4", [{"role": "user", "content": content}], {})
    other = Request("gpt-4", [{"role": "user", "content": [content[0], {**content[1], "image_url": {"url": PICTURE + "="}}]}], {})
    assert online.ask([request], ignore) == [Outcome("a cat")]
    assert server.bodies[0]["messages"] == request.messages
    assert request.key != other.key
    kept = online.answers.read_text()
    assert "aGVsbG8=" not in kept and "data:image/png;base64,sha256:" in kept
    assert offline(online).ask([request], ignore) == [Outcome("a cat")]


def test_an_endpoint_that_refuses_everything_is_one_error(server, online, no_retries):
    server.reply = lambda body: Reply('{"error": {"message": "Incorrect API key"}}', 401)
    for asked in (5, 60):
        with pytest.raises(ServiceError) as caught:
            online.ask(ask_about(*map(str, range(asked))), ignore)
        assert str(caught.value) == (
            f"{server.url}: all {min(asked, 20)} answers in a row failed (status 401 x {min(asked, 20)}); it said: "
            '{"error": {"message": "Incorrect API key"}}; '
            "check PODIUM_LLM_URL, PODIUM_LLM_KEY and the model 'gpt-4', then give the "
            f"same command again: answers so far are kept in {online.answers}"
        )
    assert len(server.bodies) <= 5 + 20 + 3
    assert not online.answers.exists()


def test_an_address_where_nobody_listens_is_one_error(tmp_path, no_retries):
    service = Online(Endpoint("http://127.0.0.1:9/v1", KEY), tmp_path / "answers.jsonl", at_once=1, timeout=1.0)
    with pytest.raises(ServiceError, match=r"^http://127\.0\.0\.1:9/v1: all 1 answers in a row failed \(no connection x 1\); it said: "):
        service.ask(ask_about("a"), ignore)


def test_an_outage_in_the_middle_ends_the_run_and_the_next_one_goes_on(server, online, no_retries):
    requests = ask_about(*map(str, range(40)))
    one_by_one = dataclasses.replace(online, at_once=1)
    server.reply = lambda body: says("fine") if len(server.bodies) <= 10 else Reply("", 503)
    with pytest.raises(ServiceError, match=r"all 20 answers in a row failed \(status 503 x 20\)"):
        one_by_one.ask(requests, ignore)
    assert len(read_answers(online.answers)) == 10
    server.bodies.clear()
    server.reply = lambda body: says("fine")
    assert one_by_one.ask(requests, ignore) == [Outcome("fine")] * 40
    # Not counted: the request that was under way when the first run ended may arrive only now.
    assert {body["messages"][0]["content"] for body in server.bodies} == set(map(str, range(10, 40)))


def test_an_error_in_between_stops_what_is_not_yet_asked(server, online):
    def fail(done: int) -> None:
        if done:
            raise KeyboardInterrupt

    stopped = threading.Event()
    server.reply = lambda body: says("fine") if len(server.bodies) == 1 or stopped.wait(20) else says("never")
    with pytest.raises(KeyboardInterrupt):
        online.ask(ask_about(*map(str, range(100))), fail)
    stopped.set()
    time.sleep(0.3)
    assert len(server.bodies) <= 4  # the first, and three that were under way


CHILD = """
import sys
from pathlib import Path
from lib.services import Endpoint, Online, Request
requests = [Request("gpt-4", [{"role": "user", "content": str(number)}], {}) for number in range(8)]
Online(Endpoint(sys.argv[1], sys.argv[2]), Path(sys.argv[3]), 1, 60.0).ask(requests, lambda done: None)
"""


@pytest.mark.parametrize("cut", [0, 30])
def test_a_killed_run_goes_on_where_it_stopped(server, online, cut):
    fourth = threading.Event()

    def reply(body: dict) -> Reply:
        if len(server.bodies) < 4:
            return says("fine ✓")
        fourth.set()
        return dataclasses.replace(says("too late"), seconds=60)

    server.reply = reply
    child = subprocess.Popen([sys.executable, "-c", CHILD, server.url, KEY, str(online.answers)])
    assert fourth.wait(60)
    child.send_signal(signal.SIGKILL)
    child.wait()
    size = online.answers.stat().st_size
    os.truncate(online.answers, size - cut)  # what a kill in the middle of writing leaves
    server.bodies.clear()
    server.reply = lambda body: says("fine ✓")
    requests = ask_about(*map(str, range(8)))
    assert online.ask(requests, ignore) == [Outcome("fine ✓")] * 8
    assert len(server.bodies) == (5 if cut == 0 else 6)
    assert offline(online).ask(requests, ignore) == [Outcome("fine ✓")] * 8


def test_the_key_is_nowhere_but_in_its_header(server, online, no_retries, caplog):
    caplog.set_level(logging.DEBUG)
    echoes = {
        "refused": Reply(json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}), 401),
        "page": Reply(f"<html>{'-' * 150}{KEY}</html>"),
        "text": says(f"Your key is {KEY}."),
    }
    server.reply = lambda body: echoes.get(question(body), says("fine"))
    outcomes = online.ask(ask_about("a", *echoes), ignore)
    assert [outcome.failure for outcome in outcomes] == [None, "status 401", "unreadable answer", "answer repeats the key"]
    with pytest.raises(ServiceError) as caught:
        dataclasses.replace(online, answers=online.answers.with_name("other.jsonl")).ask(ask_about(*echoes), ignore)
    assert server.keys == {f"Bearer {KEY}"}
    seen = [online.answers.read_text(), str(caught.value), repr(online), repr(outcomes), caplog.text]
    assert "***" in seen[0] and "***" in outcomes[1].detail
    assert not [text for text in seen if KEY in text or KEY[:12] in text]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("llm.example/v1", "is no http address; give what stands before /chat/completions, such as https://host/v1"),
        ("https:///v1", "is no http address; give what stands before /chat/completions, such as https://host/v1"),
        ("http://host:port/v1", "is no http address; give what stands before /chat/completions, such as https://host/v1"),
        (f"https://me:{KEY}@host/v1", "holds more than scheme, host and path; a key belongs into PODIUM_LLM_KEY, nowhere else"),
        (f"https://host/v1?key={KEY}", "holds more than scheme, host and path; a key belongs into PODIUM_LLM_KEY, nowhere else"),
    ],
)
def test_an_address_that_is_none_or_holds_a_key_is_refused_without_showing_it(url, message):
    with pytest.raises(ConfigError) as caught:
        read_endpoint({"PODIUM_LLM_URL": url, "PODIUM_LLM_KEY": KEY})
    assert str(caught.value) == f"PODIUM_LLM_URL {message}"


@pytest.mark.parametrize("key", ["sk one", "sk-\nx", "sk-ключ"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key):
    with pytest.raises(ConfigError) as caught:
        read_endpoint({"PODIUM_LLM_URL": "http://host/v1", "PODIUM_LLM_KEY": key})
    assert str(caught.value) == "PODIUM_LLM_KEY holds a blank or another character that no key has; paste it again"


def test_the_endpoint_comes_from_the_environment():
    assert read_endpoint({"PODIUM_LLM_KEY": KEY}) is None
    assert read_endpoint({"PODIUM_LLM_URL": "http://[::1]:8000/v1"}) == Endpoint("http://[::1]:8000/v1", "")
    given = read_endpoint({"PODIUM_LLM_URL": " https://host/v1 ", "PODIUM_LLM_KEY": f"{KEY}\n"})
    assert given == Endpoint("https://host/v1", KEY)
    assert repr(given) == "Endpoint(url='https://host/v1')"


@pytest.mark.parametrize("name", ["stream", "n", "messages", "model"])
def test_a_parameter_that_would_change_what_an_answer_is_is_refused(name):
    with pytest.raises(ConfigError) as caught:
        ask_about("a", **{name: 1})
    assert str(caught.value) == f"{name!r} is no parameter of a request to a language model; the kit sets it, leave it out"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("yes", "no", "changed after it was written; delete the line, and its request is asked again"),
        ('"gpt-4"', '"gpt-5"', "changed after it was written; delete the line, and its request is asked again"),
        ('"seal"', '"sealed"', "not a line of answers; delete it, and its request is asked again"),
        ("{", "[", "not a line of answers; delete it, and its request is asked again"),
    ],
)
def test_a_changed_line_is_refused_with_its_number(tmp_path, old, new, message):
    path = tmp_path / "answers.jsonl"
    append_answers(path, [(request, Outcome("yes")) for request in ask_about("a", "b")])
    first, second, _ = path.read_text().split("\n")
    path.write_text(f"{first}\n{second.replace(old, new, 1)}\n")
    with pytest.raises(DataError) as caught:
        read_answers(path)
    assert str(caught.value) == f"{path}:2: {message}"


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)


@given(st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=5), st.integers(0, 2000))
def test_what_is_written_is_read_back_and_a_cut_leaves_whole_lines(tmp_path_factory, answers, cut):
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    answered = [(ask_about(prompt)[0], Outcome(text)) for prompt, text in answers.items()]
    append_answers(path, answered)
    assert read_answers(path) == {request.key: outcome for request, outcome in answered}
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - cut])
    whole = path.read_bytes().count(b"\n")
    assert read_answers(path) == {request.key: outcome for request, outcome in answered[:whole]}
    cut_last_line(path)
    append_answers(path, answered[whole:])
    assert path.read_bytes() == content
