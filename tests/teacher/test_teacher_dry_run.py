"""The dry run: what is left to ask, from what the ledger has and from assumptions that it states."""

import asyncio
import json
import logging
import re
from itertools import pairwise

import pytest
from tests.teacher.conftest import reasoning_text

from mulcot_rd.images import ImageError
from mulcot_rd.teacher import DryRunFinished, TeacherParameters, annotate
from mulcot_rd.teacher.dry_run import ANSWER_TOKENS, STAGE_ONE_ACCURACY, UNUSABLE_SHARE
from mulcot_rd.teacher.ledger import Ledger, LedgerRow, question_key
from mulcot_rd.teacher.prices import Pricing
from mulcot_rd.teacher.questions import Answer, Request

# A dollar a prompt token and four an answer token, so that the printed cents tell tokens.
PRICES = {
    "fake": {"input_usd": 1e6, "output_usd": 4e6, "images": {"rule": "patches", "patch": 28}},
    "own": {"images": {"rule": "patches", "patch": 28}},
}


@pytest.fixture
def parameters():
    def make(**changed):
        settings = {"provider": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "fake", "prices": PRICES}
        return TeacherParameters(**{**settings, **changed})

    return make


@pytest.fixture
def look(caplog):
    """What a dry run prints: its numbers by row, requests, prompt tokens, answer tokens, US dollars, and its text."""
    caplog.set_level(logging.INFO, "mulcot_rd")

    def dry_run(posts, references, settings, ledger):
        caplog.clear()
        with pytest.raises(DryRunFinished, match="asked nothing about posts"):
            annotate(posts, references, settings.model_copy(update={"dry_run": True}), ledger)
        (text,) = (record.getMessage() for record in caplog.records if "dry run:" in record.getMessage())
        rows = {}
        for name, numbers in re.findall(r"^  (least|expected|most) +(\d.*)$", text, re.MULTILINE):
            rows[name] = [float(number.replace(",", "")) for number in numbers.replace("no price", "nan").split()]
        return rows, text

    return dry_run


def fill(path, requests, parameters, text=None):
    """A ledger with an answer to each request."""

    async def write():
        ledger = Ledger(path)
        for request in requests:
            answer = Answer(text=text if text is not None else reasoning_text(request.post.label), model="fake")
            key = question_key(request, parameters)
            row = LedgerRow(key=key, subject="p", role=request.role, stage=request.stage, attempt=1, answer=answer)
            await ledger.append(row)
        await ledger.close()

    asyncio.run(write())


def test_the_least_is_what_an_annotation_without_any_fault_really_uses(server, parameters, make_post, look, tmp_path):
    posts = [make_post(number, "positive") for number in range(5)]
    # Equal questions are asked once.
    posts.append(make_post(4, "positive", id="train-again"))
    references = [make_post(number, "positive", id=f"test-{number}", split="test") for number in range(5, 8)]
    settings, ledger = parameters(base_url=server.url), tmp_path / "ledger.jsonl"
    requests, prompt_tokens, answer_tokens, usd = look(posts, references, settings, ledger)[0]["least"]
    annotate(posts, references, settings, ledger)
    assert requests == len(server.requests) == 8
    pricing = Pricing(settings)
    asked = [Request(post, None, "reasoning") for post in posts[:5]] + [
        Request(p, None, "reference") for p in references
    ]
    assert prompt_tokens == sum(pricing.prompt_tokens(request) for request in asked)
    assert answer_tokens == 8 * ANSWER_TOKENS
    assert usd == prompt_tokens + 4 * answer_tokens
    rows, text = look(posts, references, settings, ledger)
    assert (rows, "9 posts for fake, 9 of them need no request" in text) == ({}, True)


def test_the_most_is_every_answer_of_both_stages_unusable(server, parameters, make_post, look, tmp_path):
    server.reply = lambda body: "no"
    posts = [make_post(1), make_post(2)]
    references = [make_post(3, id="test-3", split="test")]
    settings, ledger = parameters(base_url=server.url, max_retries=2), tmp_path / "ledger.jsonl"
    requests, _, answer_tokens, _ = look(posts, references, settings, ledger)[0]["most"]
    with pytest.raises(Exception, match="annotated none"):
        annotate(posts, references, settings, ledger)
    assert requests == len(server.requests) == 2 * 6 + 3
    assert answer_tokens == requests * settings.max_tokens
    assert look(posts, references, settings, ledger)[0] == {}


def test_the_paper_s_shares_are_expected(parameters, make_post, look, tmp_path):
    rows, _ = look([make_post(number) for number in range(100)], [], parameters(), tmp_path / "none.jsonl")
    answers = sum(UNUSABLE_SHARE**retry for retry in range(4))
    explained = 1 - (1 - UNUSABLE_SHARE**4) * STAGE_ONE_ACCURACY
    assert rows["expected"][0] == round(100 * answers * (1 + explained))
    assert pytest.approx(0.79) == 1 - UNUSABLE_SHARE**2
    for column in range(4):
        assert all(one < other for one, other in pairwise(row[column] for row in rows.values()))


def test_answers_in_the_ledger_are_not_counted_again(parameters, make_post, look, tmp_path):
    settings, ledger = parameters(), tmp_path / "l.jsonl"
    posts = [make_post(number) for number in range(6)]
    asked = [Request(post, None, "reasoning") for post in posts]
    # Three are right, one is wrong and still to be explained.
    fill(ledger, asked[:3], settings)
    fill(ledger, asked[3:4], settings, text=reasoning_text("negative"))
    rows, text = look(posts, [], settings, ledger)
    assert "3 of them need no request" in text
    assert (rows["least"][0], rows["most"][0]) == (2 + 1, 2 * 8 + 4)
    fill(ledger, [Request(posts[3], posts[3].label, "reasoning")], settings)
    assert look(posts, [], settings, ledger)[0]["least"][0] == 2


def test_a_retry_that_is_open_counts_from_where_it_stands(parameters, make_post, look, tmp_path):
    settings, ledger = parameters(), tmp_path / "l.jsonl"
    post = make_post(1)
    fill(ledger, [Request(post, None, "reasoning")], settings, text="no")
    rows, _ = look([post], [], settings, ledger)
    assert (rows["least"][0], rows["most"][0]) == (1, 3 + 4)
    reference = make_post(2, id="test-2", split="test")
    assert look([], [reference], settings, ledger)[0]["most"][0] == 4


def test_a_model_without_a_price_has_no_cost_and_says_so(parameters, make_post, look, tmp_path):
    own, text = look([make_post(1)], [], parameters(model="own"), tmp_path / "none.jsonl")
    assert text.count("no price") == 3
    unknown, text = look([make_post(1)], [], parameters(model="unknown"), tmp_path / "none.jsonl")
    assert unknown["least"][1] == own["least"][1] - 100
    assert "images are not counted" in text


def test_a_list_price_is_shown_with_its_date(parameters, make_post, look, tmp_path):
    _, text = look([make_post(1)], [], parameters(model="gpt-4o", prices={}), tmp_path / "none.jsonl")
    assert re.search(r"the price was looked up 20\d\d-\d\d", text)


def test_a_missing_image_is_named_before_anything_is_paid(parameters, make_post, tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        annotate([make_post(1, image="nowhere.jpg")], [], parameters(dry_run=True), tmp_path / "none.jsonl")


def test_the_offline_annotator_asks_nobody(make_post, look, tmp_path):
    rows, text = look([make_post(1)], [], TeacherParameters(), tmp_path / "none.jsonl")
    assert (rows, "1 of them need no request" in text) == ({}, True)


def test_batches_cost_half(parameters, make_post, look, tmp_path):
    path = tmp_path / "none.jsonl"
    online, batch = (look([make_post(1)], [], parameters(mode=mode), path)[0] for mode in ("online", "batch"))
    assert batch["least"][:3] == online["least"][:3]
    assert batch["least"][3] == pytest.approx(online["least"][3] / 2)


def test_an_import_file_answers_stage_one(parameters, make_post, look, tmp_path):
    post = make_post(1, "negative")
    row = {"text": post.text, "aspect": post.aspect, "image_path": post.image, "cot": reasoning_text("positive")}
    path = tmp_path / "import.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    settings = parameters(provider="import", import_path=str(path), fallback_provider="openai")
    rows, _ = look([post, make_post(2)], [], settings, tmp_path / "none.jsonl")
    # The imported reasoning is wrong, so its explanation is open; the other post has both stages to go.
    assert (rows["least"][0], rows["most"][0]) == (2, 4 + 8)
