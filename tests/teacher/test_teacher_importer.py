"""Importing reasonings that exist: the authors' released file, and files with faults."""

import json
import logging
import time

import pytest

from mulcot_rd.reasoning import write
from mulcot_rd.schema import Post, Reasoning
from mulcot_rd.teacher import TeacherError, TeacherParameters, annotate
from mulcot_rd.teacher.importer import post_key, read_import
from mulcot_rd.teacher.ledger import locked_ledger

COT = Reasoning(
    text_analysis="a", image_analysis="b", conflict_resolution="c", final_conclusion="d", prediction="positive"
)


def imported(post, cot=None, **changed):
    fields = {"text": post.text, "aspect": post.aspect, "image_path": f"images/{post.image.rsplit('/', 1)[-1]}"}
    return {**fields, "cot": write(COT) if cot is None else cot, "label": "neutral", **changed}


def write_rows(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_right_imports_are_stage_one_wrong_ones_go_to_the_fallback(make_post, tmp_path):
    posts = [make_post(1, "positive"), make_post(2, "negative"), make_post(3, "positive")]
    test_post = make_post(4, "negative", id="test-4", split="test")
    path = write_rows(tmp_path / "big-model.jsonl", [imported(post) for post in (posts[0], posts[1], test_post)])
    parameters = TeacherParameters(provider="import", import_path=str(path))
    result = annotate(posts, [test_post], parameters, tmp_path / "ledger.jsonl")
    first, second, third = result.reasoning
    assert (first.stage, first.model, first.text_analysis) == (1, "big-model", "a")
    assert (second.stage, second.model, second.prediction.value) == (2, "offline-rules", "negative")
    assert third.model == "offline-rules"
    assert (result.references[0].model, result.references[0].prediction.value) == ("big-model", "positive")
    assert not (tmp_path / "ledger.jsonl").exists()


def test_white_space_does_not_matter(make_post, tmp_path):
    post = make_post(1, text="Some  text\twith gaps ")
    path = write_rows(tmp_path / "i.jsonl", [imported(post, text=" Some text with gaps")])
    assert post_key(post.text, post.aspect, post.image) in read_import(path)


def test_unusable_rows_are_counted_and_skipped(make_post, tmp_path, caplog):
    good = imported(make_post(1))
    bad = ["{torn", "[1]", imported(make_post(2), cot="nothing here"), imported(make_post(3), cot=None, text=5), ""]
    path = write_rows(tmp_path / "i.jsonl", [*bad, good])
    assert len(read_import(path)) == 1
    assert "4 row(s) skipped: 1 with an incomplete reasoning, 1 with broken JSON, 1 with no object, 1 with no text" in (
        caplog.text
    )


def test_half_an_emoji_is_read_and_rows_of_other_kinds_are_skipped(make_post, tmp_path, caplog):
    half, *others = (make_post(number, "positive") for number in range(5))
    section = write(COT.model_copy(update={"text_analysis": "a smile HALF ends"})).replace("HALF", "\ud83d")
    first, second = imported(half, cot=section), imported(half, cot=write(COT))
    strange = [
        imported(others[0], text={"full": "nested"}),
        imported(others[1], cot={"answer": write(COT)}),
        imported(others[2], text=None),
        imported(others[3], aspect=["a"]),
        "[" * 100_000,
    ]
    path = write_rows(tmp_path / "i.jsonl", [first, second, *strange])
    parameters = TeacherParameters(provider="import", import_path=str(path))
    (record,) = annotate([half], [], parameters, tmp_path / "ledger.jsonl").reasoning
    # Of two rows for one post the first counts; what no file can hold is replaced.
    assert record.text_analysis == "a smile \ufffd ends"
    record.model_dump_json()
    assert "3 with no text, image_path or cot" in caplog.text
    assert "1 with an aspect that is no text" in caplog.text
    assert "1 with broken JSON" in caplog.text


def test_a_missing_or_useless_file_is_one_clear_sentence(tmp_path):
    with pytest.raises(TeacherError, match="import file not found"):
        read_import(tmp_path / "none.jsonl")
    with pytest.raises(TeacherError, match="holds no usable reasoning"):
        read_import(write_rows(tmp_path / "i.jsonl", [{"text": "a"}]))


def test_all_800_released_reasonings_find_their_test_post(shared_data):
    folder = shared_data / "twitter2015"
    name = "teacher_reasoning_qwen2.5-vl-72b.jsonl"
    keys = read_import(folder / name)
    rows = [line.split("\t") for line in (folder / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    posts = [
        Post(
            id=row[0],
            split="test",
            text=row[3].replace("$T$", row[4].strip()),
            aspect=row[4].strip(),
            image=str(folder / "images" / row[2]),
            label=["negative", "neutral", "positive"][int(row[1])],
        )
        for row in rows
    ]
    wanted = {post_key(post.text, post.aspect, post.image) for post in posts}
    released = [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    assert len(released) == 800
    assert all(post_key(row["text"], row["aspect"], row["image_path"]) in wanted for row in released)
    assert set(keys) <= wanted
    # Some rows of the test split are equal in image, text and aspect: one reasoning then covers each of them.
    assert sum(post_key(post.text, post.aspect, post.image) in keys for post in posts) == 803


def test_files_that_are_no_lines_of_utf_8_are_named_with_the_cure(make_post, tmp_path):
    rows = json.dumps([imported(make_post(1))])
    for written, said in (
        (rows.encode(), "begins as a JSON array"),
        (b'{"text": "a"}\n{"text": "caf\xe9"}\n', "line 2 is not UTF-8"),
        (b"\x1f\x8b", "compressed with gzip"),
    ):
        (tmp_path / "i.jsonl").write_bytes(written)
        with pytest.raises(TeacherError, match=rf"i\.jsonl.* {said}|i\.jsonl:? {said}"):
            read_import(tmp_path / "i.jsonl")
    (tmp_path / "i.jsonl").write_bytes(json.dumps(imported(make_post(1))).encode("utf-16"))
    assert len(read_import(tmp_path / "i.jsonl")) == 1


@pytest.mark.parametrize("folder", ["images\\", "C:\\data\\images\\", "/home/me/images/"])
def test_rows_of_any_system_find_their_posts_and_the_log_counts_them(make_post, tmp_path, caplog, folder):
    caplog.set_level(logging.INFO, "mulcot_rd")
    posts = [make_post(number) for number in range(3)]
    rows = [imported(post, image_path=f"{folder}picture.png") for post in (*posts[:2], make_post(9))]
    path = write_rows(tmp_path / "i.jsonl", rows)
    result = annotate(posts, [], TeacherParameters(provider="import", import_path=str(path)), tmp_path / "l.jsonl")
    assert [record.model for record in result.reasoning] == ["i", "i", "offline-rules"]
    assert "2 of 3 reasonings match, 2 of 3 posts are covered" in caplog.text


def test_a_file_that_covers_no_post_is_an_error(make_post, tmp_path):
    path = write_rows(tmp_path / "i.jsonl", [imported(make_post(1), image_path="other.png")])
    for dry_run in (False, True):
        parameters = TeacherParameters(provider="import", import_path=str(path), dry_run=dry_run)
        with pytest.raises(TeacherError, match="none of the 1 reasonings"):
            annotate([make_post(1)], [], parameters, tmp_path / "l.jsonl")


def test_a_file_that_fits_no_post_leaves_the_ledger_free(server, make_post, tmp_path):
    path = write_rows(tmp_path / "i.jsonl", [imported(make_post(1))])
    parameters = TeacherParameters(
        provider="import", import_path=str(path), fallback_provider="openai", base_url=server.url, model="fake"
    )
    # The exception is kept, as a notebook does, and with it all objects of the call.
    with pytest.raises(TeacherError, match="none of the 1 reasonings") as _caught:
        annotate([make_post(2)], [], parameters, tmp_path / "l.jsonl")
    started = time.monotonic()
    with locked_ledger(tmp_path / "l.jsonl"):
        pass
    assert time.monotonic() - started < 1
