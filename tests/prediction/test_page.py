"""``kedro demo``: what visitors see, and what visitors can't do."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from mulcot_rd.errors import UserError
from mulcot_rd.images import load_image
from mulcot_rd.schema import Sentiment, Verdict

gradio = pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'mulcot-rd[demo]'")
httpx = pytest.importorskip("httpx")

from mulcot_rd.prediction import page  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "01_raw" / "sample"
MARKUP = '<img src=x onerror="window.marked = 1"> **bold** <b>bold</b> $x^2$'


def verdict(**other) -> Verdict:
    empty = dict.fromkeys(("text_analysis", "image_analysis", "conflict_resolution", "final_conclusion"), "")
    counts = {"attempts": 1, "label_attempts": 1, "raw_text": "", "raw_label_text": ""}
    return Verdict(**{**empty, **counts, "label": None, "probabilities": None, "reasoning_label": None, **other})


class Reasoner:
    """Says the post again, word by word; knows how many posts it was asked at once, and which it did not finish."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.now, self.most, self.left = pause, 0, 0, []

    def stream(self, *, text, image, aspect):
        if not text.strip():
            raise UserError("empty text")
        if image is not None:
            load_image(image)
        self.now += 1
        self.most = max(self.most, self.now)
        words = text.split(" ")
        try:
            for count in range(len(words) + 1):
                time.sleep(self.pause)
                yield verdict(text_analysis=" ".join(words[:count]))
        except GeneratorExit:
            self.left.append(text)
            raise
        finally:
            self.now -= 1
        shares = {Sentiment.NEGATIVE: 0.1, Sentiment.NEUTRAL: 0.2, Sentiment.POSITIVE: 0.7}
        yield verdict(label="positive", probabilities=shares, reasoning_label="neutral", text_analysis=text)


class Visitor:
    """What a browser sends and gets, without a browser."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        dependencies = httpx.get(f"{self.address}/config").json()["dependencies"]
        # The first student's: post, image and aspect go in.
        self.ask_number = next(one["id"] for one in dependencies if len(one["inputs"]) == 3)

    def upload(self, content: bytes, name: str = "image.png") -> httpx.Response:
        return httpx.post(f"{self.address}/gradio_api/upload", files={"files": (name, content)}, timeout=30)

    def file(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.address}/gradio_api/file={path}")

    def ask(self, text, image=None, aspect="", *, leave_after=None):
        """The last values of a student's column; an error's text; ``None`` for who left."""
        session = os.urandom(6).hex()
        given = image and {"path": image, "meta": {"_type": "gradio.FileData"}}
        joined = httpx.post(
            f"{self.address}/gradio_api/queue/join",
            json={"data": [text, given, aspect], "fn_index": self.ask_number, "session_hash": session},
            timeout=60,
        )
        if joined.status_code != 200:
            return joined.text
        steps = 0
        address = f"{self.address}/gradio_api/queue/data"
        with httpx.stream("GET", address, params={"session_hash": session}, timeout=60) as events:
            for line in events.iter_lines():
                event = json.loads(line[5:]) if line.startswith("data:") else {"msg": ""}
                steps += event["msg"] == "process_generating"
                if leave_after is not None and steps >= leave_after:
                    return None
                if event["msg"] == "process_completed":
                    return event["output"].get("data") or str(event["output"])
        return "the server ended the connection"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def reasoner():
    return Reasoner(pause=0.02)


@pytest.fixture(scope="module")
def address(reasoner, tmp_path_factory):
    """The page on a free port, with uploads in a folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
        patch.chdir(ROOT)
        built = page.build_page([("one", reasoner), ("two", Reasoner())], page.examples(SAMPLE))
        yield page.serve(built, "127.0.0.1", free_port())
        built.close()


@pytest.fixture
def visitor(address):
    return Visitor(address)


def answered(values) -> bool:
    return values[1] == "The label is positive, the reasoning gave neutral."


def test_the_newest_student_is_shown(tmp_path):
    with pytest.raises(UserError, match="no trained student: do kedro run first"):
        page.newest_student(tmp_path)
    for number, version in enumerate(("2026-02", "2026-01")):
        manifest = tmp_path / "06_models/sample/arch4" / "student" / version / "student" / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.touch()
        os.utime(manifest, (number, number))
    newest = page.newest_student(tmp_path)
    assert page.title(newest) == "sample/arch4/student/2026-01/student"
    assert page.title(tmp_path / "merged") == "merged"


def test_examples_are_posts_of_the_test_split():
    text, image, aspect = page.examples(SAMPLE)[0]
    assert text
    assert aspect in text
    assert Path(image).name.startswith("test-")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"label": "positive", "reasoning_label": "positive"}, "The label is positive, and the reasoning agrees."),
        ({"label": "positive", "reasoning_label": "neutral"}, "The label is positive, the reasoning gave neutral."),
        ({"label": "neutral", "attempts": 0}, "The label is neutral."),
        ({"attempts": 4}, "The label is missing, the reasoning gave none; the reasoning took 4 attempts."),
    ],
)
def test_a_sentence_says_how_it_decided(said, sentence):
    assert page.summary(verdict(**said)) == sentence


def test_sections_are_shown_as_they_are_written():
    steps = list(page.answer(Reasoner(), "one two", None, ""))
    assert [(step[1], step[2]) for step in steps[:3]] == [("writing", ""), ("writing", "one"), ("writing", "one two")]
    assert steps[-1][0] == {"negative": 0.1, "neutral": 0.2, "positive": 0.7}
    assert answered(steps[-1])


def test_a_bad_request_gets_a_sentence_and_the_next_one_an_answer(visitor):
    no_image = visitor.upload(b"no image at all").json()[0]
    for request, sentence in (
        ((" ",), "empty text"),
        (("x" * 100_000,), "the post has 100,000 characters: shorten it to 2,000"),
        (("x", None, "y" * 100_000), "the aspect has 100,000 characters: shorten it to 2,000"),
        (("x", no_image), "image can't be read (UnidentifiedImageError): image.png"),
    ):
        values = visitor.ask(*request)
        assert values[1] == sentence
        assert not any(values[2:])
        assert answered(visitor.ask("good"))


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(visitor, tmp_path):
    Image.new("1", (10_000, 9_000)).save(tmp_path / "bomb.png")
    image = visitor.upload((tmp_path / "bomb.png").read_bytes(), "bomb.png").json()[0]
    assert visitor.ask("x", image)[1] == "image of 10000 x 9000 pixels is too large: bomb.png"


def test_a_port_in_use_is_one_sentence(address):
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(UserError, match=rf"can't listen on 127\.0\.0\.1:{port}: another program does"):
        page.serve(page.build_page([("one", Reasoner())], page.examples(SAMPLE)), "127.0.0.1", port)


def test_a_large_upload_is_refused(visitor):
    assert visitor.upload(b"0" * 11_000_000).status_code == 413
    assert answered(visitor.ask("good"))


def test_no_file_of_the_machine_can_be_read(visitor):
    conf = str(ROOT / "conf" / "base" / "parameters.yml")
    for path in ("/etc/passwd", conf):
        assert visitor.file(path).status_code == 403
        assert isinstance(visitor.ask("x", path), str)
    assert isinstance(visitor.ask("x", visitor.address), str)
    assert answered(visitor.ask("good"))


def test_ten_users_are_answered_one_at_a_time(visitor, reasoner):
    told = []
    users = [threading.Thread(target=lambda n=n: told.append(visitor.ask(f"user {n}"))) for n in range(10)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert sorted(values[2] for values in told) == sorted(f"user {n}" for n in range(10))
    assert reasoner.most == 1


def test_who_leaves_is_not_answered_to_the_end(visitor, reasoner):
    assert visitor.ask("word " * 300, leave_after=3) is None
    begin = time.monotonic()
    assert answered(visitor.ask("good"))
    assert time.monotonic() - begin < 4
    assert reasoner.left == ["word " * 300]


@pytest.mark.parametrize("family_name", ["qwen2_5_vl"], indirect=True, scope="session")
def test_the_command_listens_here_alone_and_deletes_what_was_sent(student, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "kedro", "demo", "--student", str(student), "--port", str(port)]
    given = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=given, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == f"http://127.0.0.1:{port}/ is open; Ctrl-C ends it\n"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", port))
            visitor = Visitor(f"http://127.0.0.1:{port}")
            image = visitor.upload((SAMPLE / "images" / "test-001.jpg").read_bytes()).json()[0]
            assert Path(image).is_relative_to(tmp_path)
            assert visitor.ask("A sunny morning", image, "morning")[1].startswith("The label is")
        finally:
            process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not Path(image).exists()
    assert not list(tmp_path.glob("mulcot-rd-*"))


def test_chromium_shows_answers_of_two_students_and_no_markup(address, tmp_path):
    pytest.importorskip("websockets")
    from tests.prediction.browser import CHROMIUM, Browser  # noqa: PLC0415

    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")

    def field(label, number=0):
        labels = f"[...document.querySelectorAll('label')].filter(one => one.innerText.startsWith({label!r}))"
        return f"{labels}[{number}]?.querySelector('textarea, input')"

    with Browser(address, tmp_path / "profile") as browser:
        browser.wait("document.querySelector('button.primary') !== null")
        browser.wait("document.querySelector('.tr-body') !== null")
        browser.value("document.querySelector('.tr-body').click()")
        browser.wait(f"{field('Aspect')}.value.length > 0")
        browser.wait("document.querySelector('[data-testid=image] img, .image-frame img') !== null")
        browser.value(
            f"(box => {{ box.value = {json.dumps(MARKUP)}; box.dispatchEvent(new Event('input')) }})({field('Post')})"
        )
        browser.value("document.querySelector('button.primary').click()")
        browser.wait(f"{field('Verdict')}.value === 'writing'")
        for number in (0, 1):
            browser.wait(f"{field('Verdict', number)}.value.startsWith('The label is')")
            assert browser.value(f"{field('Text analysis', number)}.value") == MARKUP
        assert browser.value("window.marked") is None
        assert "70%" in browser.value("document.body.innerText")
        hosts = browser.value("performance.getEntriesByType('resource').map(one => new URL(one.name).hostname)")
        assert set(hosts) == {"127.0.0.1"}
        assert browser.errors == []
