"""Captions: every image once, by rules or by a server, joined to posts in memory."""

import csv
import json
import logging
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mulcot_rd.credentials import Credentials
from mulcot_rd.demo.image_caption import describe_image
from mulcot_rd.errors import UserError
from mulcot_rd.frames import posts_to_frame
from mulcot_rd.images import ImageError
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipelines.teacher_annotation.nodes import annotate_posts, caption_posts
from mulcot_rd.teacher import DryRunFinished, TeacherError, TeacherParameters, caption_images, with_captions

SAMPLE = Path(__file__).parents[2] / "data" / "01_raw" / "sample"
GOOD = "Two people laugh on a sunny beach, with blue water behind them."


@pytest.fixture
def images(tmp_path):
    """Four files, the last a copy of the first."""
    paths = []
    for number, colour in enumerate(["gold", "black", "skyblue", "gold"]):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (60, 40), colour).save(path)
        paths.append(str(path))
    return paths


@pytest.fixture
def parameters(server):
    def make(captions=None, **changed):
        captions = {"provider": "openai", "base_url": server.url, "model": "seer", **(captions or {})}
        return TeacherParameters(**{"backoff_s": 0.01, "timeout_s": 5.0, "captions": captions, **changed})

    return make


def test_rules_say_what_can_be_measured(images):
    gold, black, sky, copy = map(describe_image, images)
    assert "bright" in gold
    assert "yellow" in gold
    assert "dark and grey" in black
    assert "mostly black" in black
    assert "turquoise" in sky or "blue" in sky
    assert gold == copy


def test_rules_caption_the_whole_sample(tmp_path):
    with (SAMPLE / "posts.csv").open(encoding="utf-8") as file:
        images = [str(SAMPLE / "images" / row["image"]) for row in csv.DictReader(file)]
    records, _ = caption_images(images, TeacherParameters(), tmp_path / "ledger.jsonl")
    assert [record.image for record in records] == list(dict.fromkeys(images))
    assert {record.model for record in records} == {"offline-rules"}
    assert len({record.caption for record in records}) > 30
    assert all(5 < len(record.caption.split()) < 60 for record in records)
    assert not (tmp_path / "ledger.jsonl").exists()


def test_every_image_is_asked_for_once_and_never_again(server, parameters, images, tmp_path):
    server.reply = lambda body: f"  A picture.\n{GOOD} "
    records, quarantine = caption_images([*images, images[1]], parameters(), tmp_path / "ledger.jsonl")
    assert [record.image for record in records] == images
    assert records[0].caption == f"A picture. {GOOD}"
    assert records[0].model == "fake-model-2026"
    # Files of equal content share a question.
    assert len(server.requests) == 3
    assert all(body["model"] == "seer" for body in server.requests)
    assert "response_format" not in server.requests[0]
    again = caption_images(images, parameters(max_concurrency=3), tmp_path / "ledger.jsonl")
    assert again == (records, quarantine)
    assert len(server.requests) == 3


def test_a_caption_follows_the_thoughts(server, parameters, images, tmp_path):
    server.reply = lambda body: f"<think>\n{'I see. ' * 200}\n</think>\n\n{GOOD}"
    ((record,), _) = caption_images(images[:1], parameters(), tmp_path / "ledger.jsonl")
    assert (record.caption, record.attempts) == (GOOD, 1)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ("", "it is empty"),
        ("I’m sorry, I can't describe people.", "does not describe the image"),
        ({"content": "A long street that", "finish_reason": "length"}, "cut off"),
        ("word " * 200, "it has 200 words"),
    ],
)
def test_unusable_captions_are_asked_again_with_what_was_wrong(server, parameters, images, tmp_path, bad, complaint):
    replies = [bad, GOOD]
    server.reply = lambda body: replies.pop(0)
    ((record,), _) = caption_images(images[:1], parameters(), tmp_path / "ledger.jsonl")
    assert (record.caption, record.attempts, record.usage.prompt_tokens) == (GOOD, 2, 20)
    assert complaint in server.requests[1]["messages"][-1]["content"]


def test_an_image_that_fails_is_quarantined_and_a_post_without_caption_refused(
    server, parameters, images, make_post, tmp_path
):
    # Told apart by their pictures: the one that comes first is refused for good.
    refused: list[str] = []

    def reply(body):
        shown = body["messages"][0]["content"][0]["image_url"]["url"]
        refused.append(shown) if not refused else None
        return "I cannot help with that." if shown == refused[0] else GOOD

    server.reply = reply
    records, (quarantined,) = caption_images(images[:3], parameters(max_concurrency=1), tmp_path / "ledger.jsonl")
    assert len(quarantined.answers) == 4
    posts = [make_post(number, image=image) for number, image in enumerate(images[:3])]
    (failed,) = (post for post in posts if post.image == quarantined.image)
    kept = [post for post in posts if post is not failed]
    assert [post.caption for post in with_captions(kept, records)] == [GOOD, GOOD]
    with pytest.raises(UserError, match=rf"image of post {failed.id} .* has no caption"):
        with_captions(posts, records)


def test_rules_stand_in_only_where_that_is_asked_for(server, parameters, images, tmp_path):
    server.reply = lambda body: "I cannot help with that."
    with pytest.raises(TeacherError, match="none of 2 images"):
        caption_images(images[:2], parameters(max_retries=0), tmp_path / "ledger.jsonl")
    fallback = parameters({"fallback_provider": "offline"}, max_retries=0)
    records, quarantine = caption_images(images[:2], fallback, tmp_path / "ledger.jsonl")
    assert {record.model for record in records} == {"offline-rules"}
    assert quarantine == []


def test_a_dry_run_asks_nothing_until_the_captions_are_there(server, parameters, images, tmp_path, caplog):
    caplog.set_level(logging.INFO, "mulcot_rd")
    server.reply = lambda body: GOOD
    with pytest.raises(DryRunFinished, match="asked nothing about images"):
        caption_images(images, parameters(dry_run=True), tmp_path / "ledger.jsonl")
    assert server.requests == []
    # Two of the files are equal.
    assert re.search(r"dry run: 4 images for seer.*\n.*\n +least +3 .*\n +most +12 ", caplog.text)
    caption_images(images, parameters(), tmp_path / "ledger.jsonl")
    records, _ = caption_images(images, parameters(dry_run=True), tmp_path / "ledger.jsonl")
    assert len(records) == 4
    assert len(server.requests) == 3


def test_a_missing_image_is_named(parameters, tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        caption_images([str(tmp_path / "nowhere.png")], TeacherParameters(), tmp_path / "ledger.jsonl")


def test_only_those_are_captioned_whose_captions_are_read(images, make_post, tmp_path):
    splits = ("train", "dev", "test")
    posts = posts_to_frame([make_post(n, split=split, image=images[n]) for n, split in enumerate(splits)])

    def captioned(send, needed):
        records, _ = caption_posts(
            posts, TeacherParameters(send=send), needed, Credentials(), tmp_path / "ledger.jsonl"
        )
        return [record.image for record in records]

    assert captioned("image", False) == []
    assert captioned("image", True) == images[:3]
    assert captioned("caption", False) == [images[0], images[2]]


def test_a_text_only_teacher_reads_the_caption_in_place_of_the_image(server, parameters, make_post, tmp_path):
    settings = parameters(
        {"provider": "offline", "base_url": None},
        provider="openai",
        base_url=server.url,
        model="reader",
        send="caption",
    )
    posts: pd.DataFrame = posts_to_frame([make_post(1), make_post(2, split="test", id="test-1")])
    captions, _ = caption_posts(posts, settings, False, Credentials(), tmp_path / "ledger.jsonl")
    assert server.requests == []
    run = RunParameters(
        dataset="sample", arch=4, scale="tiny", variant="full", name="x", raw_dir="r", seed=1, engine="local"
    )
    reasoning, *_ = annotate_posts(posts, captions, settings, Credentials(), tmp_path / "ledger.jsonl", run)
    assert len(reasoning) == 1
    assert "data:image" not in json.dumps(server.requests)
    assert all(captions[0].caption in json.dumps(body) for body in server.requests)
