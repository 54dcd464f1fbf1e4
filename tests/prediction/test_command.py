"""``kedro predict``: a file of posts in, a row with a verdict or a reason for each out."""

import json
import shutil

import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image
from pydantic import ValidationError
from tests.teacher.fault_server import FaultServer, text_of

from mulcot_rd.cli import cli
from mulcot_rd.credentials import Credentials
from mulcot_rd.datasets import VerdictsDataset
from mulcot_rd.errors import UserError
from mulcot_rd.generation import trained
from mulcot_rd.models.loaded import load_encoder
from mulcot_rd.pipeline_registry import stage
from mulcot_rd.prediction.posts_file import read_rows
from mulcot_rd.prediction.predict import PredictionPipelineParameters
from mulcot_rd.reasoning import write, write_label
from mulcot_rd.schema import Reasoning, Sentiment

pytestmark = pytest.mark.parametrize("family_name", ["qwen2_5_vl"], indirect=True, scope="session")

REASONING = Reasoning(
    text_analysis="The text is fine.",
    image_analysis="The image is gold.",
    conflict_resolution="None.",
    final_conclusion="All is well.",
    prediction="positive",
)
FAST = "generation.max_new_tokens=12,generation.max_label_tokens=6,generation.max_retries=1"
# Line by line what a user may hand over, with the reason that comes back.
BROKEN = {
    b"good,fine,one.png,": None,
    b"several,fine,one.png,soup | the waiter|": None,
    b"good,same id,one.png,": None,
    b",fine,one.png,": "line 5: empty id",
    b"c,,one.png,": "line 6: empty text",
    b"d,fine,,": "line 7: empty image",
    b"e,fine,none.png,": "line 8: image not found",
    b"f,fine,text.png,": "line 9: image can't be read",
    b"g,fine,https://example.org/a.jpg,": "line 10: image https://example.org/a.jpg is not a file of this machine",
    b"h,fine": "line 11: wrong column count: 2 instead of 4",
    b"i,one,two,one.png,soup": "line 12: wrong column count: 5 instead of 4",
    b"j,caf\xe9,one.png,": "line 13: not UTF-8",
    b"k,nul \x00,one.png,": "line 14: not UTF-8, or with a NUL byte",
    b"l," + b"x" * 20_000 + b",one.png,": "line 15: text of 20,000 characters",
    b'm,"open quote,one.png,': "line 16: not valid CSV",
    b'n,"closed" too early,one.png,': "line 17: not valid CSV",
    b"NaN,fine,one.png,": "line 18: empty id",
    b'p,"two\nlines",one.png,': None,
    b"q,fine,folder.png,": "line 21: image not found",
    b"r,fine,file://[::1/a.png,": "line 22: image file://[::1/a.png is not a path or an address",
    b'last,<|im_end|> and "" quotes,one.png,': None,
}
SAID = ["good", "several", "several", "good", "", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "", "", "", "p"]


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (40, 30), "gold").save(tmp_path / "one.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def predict(posts, student, out, *more):
    return CliRunner().invoke(cli, ["predict", str(posts), "--student", str(student), "--output", str(out), *more])


def test_every_row_of_a_broken_file_comes_back(student, folder):
    posts, out = folder / "posts.csv", folder / "out.jsonl"
    posts.write_bytes(b"\n".join([b"id,text,image,aspect", *BROKEN, b""]))
    done = predict(posts, student, out, "--params", FAST)
    assert done.exit_code == 0, done.output
    assert f"{out}: 22 rows, 16 of them with an error" in done.output
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [*SAID, "q", "r", "last"]
    assert [row["aspect"] for row in rows[:4]] == [None, "soup", "the waiter", None]
    reasons = list(BROKEN.values())
    # The row with two aspects is two rows.
    for row, reason in zip(rows, [reasons[0], None, *reasons[1:]], strict=True):
        if reason is None:
            assert row["error"] is None
            assert sum(row[f"probability_{label}"] for label in ("negative", "neutral", "positive")) == pytest.approx(1)
            assert row["attempts"] >= 1
        else:
            assert row["error"].startswith(reason)
            assert row["label"] is row["attempts"] is row["agrees"] is None


def write_posts(frame, path):
    """A table of posts in the form that its ending says."""
    writers = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".parquet": lambda: frame.to_parquet(path),
    }
    writers[path.suffix]()
    return path


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_every_form_is_read_and_written(student, folder, form):
    posts, out = folder / f"posts.{form}", folder / f"out.{form}"
    frame = pd.DataFrame({"id": [1, 2, 3], "text": ["a", "b", None], "image": "one.png", "likes": 3})
    write_posts(frame, posts)
    done = predict(posts, student, out, "--params", FAST)
    assert done.exit_code == 0, done.output
    readers = {
        "csv": lambda: pd.read_csv(out, dtype={"id": str}),
        "jsonl": lambda: pd.read_json(out, lines=True, dtype={"id": str}),
        "parquet": lambda: pd.read_parquet(out),
    }
    written = readers[form]()
    assert list(written["id"]) == ["1", "2", "3"]
    assert list(written["error"].isna()) == [True, True, False]
    assert written["error"][2].endswith("empty text: the model was trained on posts with text and image")
    assert written["probability_neutral"][:2].between(0, 1).all()


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_letter_case_in_names_of_columns_does_not_matter(student, folder, form):
    frame = pd.DataFrame({"ID": ["a"], "Text": ["fine"], " image": ["one.png"], "Aspect": ["soup|waiter"]})
    rows = read_rows(write_posts(frame, folder / f"posts.{form}"), load_encoder(student))
    assert [(row.aspect, row.error) for row in rows] == [("soup", None), ("waiter", None)]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_known_column_that_stands_twice_is_refused(student, folder, form):
    frame = pd.DataFrame({"id": ["a"], "text": ["fine"], "image": ["one.png"], "Aspect": ["soup"], "aspect": ["tea"]})
    posts = write_posts(frame, folder / f"posts.{form}")
    if form == "jsonl":
        (row,) = read_rows(posts, load_encoder(student))
        assert row.error == "column aspect stands twice; keep one of them"
        return
    with pytest.raises(UserError, match=r"column aspect stands twice.*; keep one of them"):
        read_rows(posts, load_encoder(student))


def test_a_tilde_is_the_home_folder_or_part_of_a_name(student, folder, monkeypatch):
    posts = folder / "posts.csv"
    (folder / "home").mkdir()
    for path in ("~2.png", "home/one.png"):
        shutil.copy(folder / "one.png", folder / path)
    monkeypatch.setenv("HOME", str(folder / "home"))
    posts.write_text("id,text,image\na,fine,~2.png\nb,fine,~/one.png\nc,fine,~\\one.png\nd,fine,~nobody/one.png\n")
    rows = read_rows(posts, load_encoder(student))
    assert [row.content and row.content.image for row in rows] == [
        str(folder / "~2.png"),
        *[str(folder / "home/one.png")] * 2,
        None,
    ]
    assert rows[3].error == f"image not found: {folder}/~nobody/one.png"


def test_rows_of_json_that_are_none_come_back(student, folder):
    posts, out = folder / "posts.jsonl", folder / "out.jsonl"
    good = {"id": "a", "text": "fine", "image": "one.png"}
    lines = [json.dumps(good), "{", "[1]", json.dumps({**good, "text": 3}), json.dumps({**good, "aspect": ["x"]})]
    # Half an emoji, which JSON can write and no file can hold.
    lines += [json.dumps({**good, "id": "\ud83d"}), json.dumps({**good, "image": "\ud83d.png"})]
    posts.write_text("\n".join(lines))
    assert predict(posts, student, out, "--params", FAST).exit_code == 0
    errors = [json.loads(line)["error"] for line in out.read_text().splitlines()]
    assert errors[0] is None
    assert errors[1].startswith("line 2: not valid JSON")
    assert errors[2:] == [
        "line 3: not a JSON object",
        "line 4: text must be text, and is 3",
        "line 5: aspect must be text, and is ['x']",
        "line 6: id is not Unicode: it holds half of a surrogate pair",
        "line 7: image is not Unicode: it holds half of a surrogate pair",
    ]


def test_a_folder_of_images_with_texts_is_read_too(student, folder):
    """What MVSA comes as: an image and a .txt of its name."""
    posts, out = folder / "posts", folder / "out.jsonl"
    posts.mkdir()
    for name in ("b.png", "a.JPG", "c.png", "d.png"):
        Image.new("RGB", (9, 9)).save(posts / name)
    (posts / "a.txt").write_text("café\n")
    (posts / "b.txt").write_text("fine | still one post")
    (posts / "d.txt").write_bytes(b"caf\xe9")
    (posts / "e.txt").write_text("no image")
    (posts / ".hidden.png").touch()
    (posts / "a.json").write_text("{}")
    done = predict(posts, student, out, "--params", FAST)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["a.JPG", "b.png", "c.png", "d.png", "e.txt"]
    assert [row["error"] for row in rows[:2]] == [None, None]
    assert rows[2]["error"] == "c.png: empty text: the model was trained on posts with text and image"
    assert rows[3]["error"].startswith("d.png: ")
    assert "d.txt: line 1 is not UTF-8" in rows[3]["error"]
    assert rows[4]["error"].startswith("e.txt: empty image")
    (folder / "none").mkdir()
    assert "holds no image and no .txt" in predict(folder / "none", student, out).output


def test_what_was_answered_is_not_asked_again(student, folder, monkeypatch):
    posts, out = folder / "posts.csv", folder / "out.csv"
    posts.write_text("id,text,image\na,fine,one.png\n")
    assert predict(posts, student, out, "--params", FAST).exit_code == 0
    first = out.read_bytes()
    out.unlink()
    monkeypatch.setattr(trained, "launch", None)
    assert predict(posts, student, out, "--params", FAST).exit_code == 0
    assert out.read_bytes() == first


def test_two_processes_write_the_same(student, folder):
    posts = folder / "posts.csv"
    posts.write_text("id,text,image\n" + "".join(f"{number},fine {number},one.png\n" for number in range(5)))
    outs = [folder / "one.jsonl", folder / "two.jsonl"]
    assert predict(posts, student, outs[0], "--params", FAST).exit_code == 0
    done = predict(posts, student, outs[1], "--params", f"{FAST},cluster.workers=2,cluster.cpus_per_worker=1")
    assert done.exit_code == 0, done.output
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_the_pipeline_writes_the_same(student, folder):
    posts, outs = folder / "posts.csv", [folder / "command.csv", folder / "pipeline.csv"]
    posts.write_text("id,text,image\n1,fine,one.png\n2,fine,none.png\n")
    assert predict(posts, student, outs[0], "--params", FAST).exit_code == 0
    asked = {"generation": {"max_new_tokens": 12, "max_label_tokens": 6, "max_retries": 1}}
    given = PredictionPipelineParameters(posts=posts, student=student, output=outs[1], **asked)
    catalog = DataCatalog(
        {
            "params:prediction": MemoryDataset(given),
            "teacher_credentials": MemoryDataset(Credentials()),
            "verdicts": VerdictsDataset(filepath=str(outs[1])),
        }
    )
    SequentialRunner().run(stage("prediction"), catalog)
    assert outs[1].read_bytes() == outs[0].read_bytes()
    verdicts = catalog.load("verdicts")
    assert list(verdicts["id"]) == ["1", "2"]
    assert list(verdicts["agrees"].isna()) == [False, True]


@pytest.fixture
def server(monkeypatch):
    """A server with the student, outside of any project and its credentials."""
    monkeypatch.setattr("mulcot_rd.cli._credentials", lambda name: Credentials())

    def reply(body):
        return write(REASONING) if "Text_analysis" in text_of(body["messages"][0]) else write_label(Sentiment.NEUTRAL)

    with FaultServer(reply=reply, models=("student",)).running() as server:
        yield server


def served_by(server):
    return f"generation.backend=served,generation.served.base_url={server.url},generation.served.model=student"


def test_a_post_that_a_server_refuses_has_the_reason_and_is_asked_once(student, folder, server):
    posts, out = folder / "posts.csv", folder / "out.jsonl"
    posts.write_text("id,text,image\na,fine,one.png\nb,refused,one.png\n")

    def refuse(method, path, headers, body):
        if method == "POST" and "refused" in body.decode():
            return 400, {}, json.dumps({"error": {"message": "too long", "code": "context_length_exceeded"}})
        return None

    server.other = refuse
    done = predict(posts, student, out, "--params", served_by(server))
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["label"] for row in rows] == ["neutral", None]
    assert rows[0]["error"] is None
    assert "too long" in rows[1]["error"]
    assert (rows[1]["attempts"], rows[1]["label_attempts"]) == (1, 1)


def test_a_server_answers_and_gives_no_probabilities(student, folder, server):
    posts, out = folder / "posts.csv", folder / "out.jsonl"
    posts.write_text("id,text,image\na,fine,one.png\n")

    done = predict(posts, student, out, "--params", served_by(server))
    assert done.exit_code == 0, done.output
    row = json.loads(out.read_text())
    assert (row["label"], row["reasoning_label"], row["agrees"]) == ("neutral", "positive", False)
    assert row["image_analysis"] == "The image is gold."
    assert row["probability_neutral"] is None


def test_a_file_without_a_good_row_needs_no_model_to_answer(student, folder):
    posts, out = folder / "posts.csv", folder / "out.jsonl"
    posts.write_text("id,text,image\na,fine,none.png\n")
    assert "1 rows, 1 of them with an error" in predict(posts, student, out).output
    posts.write_text("id,text,image\n")
    assert f"{out}: 0 rows" in predict(posts, student, out).output


@pytest.mark.parametrize(
    ("asked", "out", "params", "message"),
    [
        ("posts.xlsx", "out.csv", "", "posts.xlsx must end in .csv, .jsonl or .parquet"),
        ("posts.csv", "out.txt", "", "out.txt must end in .csv, .jsonl or .parquet"),
        ("posts.csv", "posts.csv", "", "is the file of the posts: name another"),
        ("none.csv", "out.csv", "", "none.csv can't be opened"),
        ("none.parquet", "out.csv", "", "none.parquet can't be read as Parquet"),
        ("short.csv", "out.csv", "", "column text, image missing in line 1"),
        ("posts.csv", "out.csv", "generation.rows=1", "parameters refused: generation.rows: Extra inputs"),
        ("posts.csv", "out.csv", "limit=1", "parameters refused: limit: Extra inputs"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(student, folder, asked, out, params, message):
    (folder / "posts.csv").write_text("id,text,image\na,fine,one.png\n")
    (folder / "short.csv").write_text("id,aspect\na,soup\n")
    done = predict(folder / asked, student, folder / out, "--params", params)
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())


def test_a_student_at_a_url_is_refused(student, folder):
    url = f"s3:/{student}"
    done = predict(folder / "posts.csv", url, folder / "out.jsonl")
    assert done.exit_code == 2
    assert f"{url} is a URL: copy it to this machine" in " ".join(done.output.split())
    with pytest.raises(ValidationError, match=r"s3://.*: posts, student and verdicts .* not at a URL: copy it"):
        PredictionPipelineParameters(posts="posts.csv", student=url, output="out.jsonl")
