"""The dry run: what is left to ask, from what the ledger has and from assumptions that it states."""

import asyncio
import json
import math

import pytest
from tests.teacher.conftest import reasoning_text
from tokenizers import Tokenizer, models, pre_tokenizers

from mulcot_rd.schema import Sentiment, Usage
from mulcot_rd.teacher import TeacherError, TeacherParameters, annotate
from mulcot_rd.teacher.estimate import ANSWER_TOKENS, STAGE_ONE_ACCURACY, UNUSABLE_SHARE, duration, estimate
from mulcot_rd.teacher.ledger import Ledger, LedgerRow, question_key
from mulcot_rd.teacher.prices import ModelPrice, PatchedImages, pricing_of
from mulcot_rd.teacher.provider import Answer, Request

PRICES = {
    "fake": ModelPrice(input_usd=1.0, output_usd=4.0, images=PatchedImages(rule="patches", patch=28)),
    "own": ModelPrice(images=PatchedImages(rule="patches", patch=28)),
}


@pytest.fixture
def parameters():
    def make(**changed):
        settings = {"provider": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "fake", "prices": PRICES}
        return TeacherParameters(**{**settings, **changed})

    return make


def look(posts, references, parameters, ledger):
    return asyncio.run(estimate(posts, references, parameters, ledger))


def fill(path, requests, parameters, text=None, **answered):
    """A ledger with an answer to each request."""
    pricing = pricing_of(parameters)

    async def write():
        ledger = Ledger(path)
        for request in requests:
            usage = Usage(prompt_tokens=pricing.prompt_tokens(request), completion_tokens=250)
            said = text if text is not None else reasoning_text(request.post.label)
            answer = Answer(**{"text": said, "model": "fake", "usage": usage, "latency_s": 1.0, **answered})
            await ledger.append(
                LedgerRow(
                    key=question_key(request, parameters),
                    subject=request.subject,
                    role=request.role,
                    stage=request.stage,
                    attempt=request.attempt,
                    answer=answer,
                )
            )
        await ledger.close()

    asyncio.run(write())


def test_the_least_is_what_an_annotation_without_any_fault_really_uses(server, parameters, make_post, tmp_path):
    posts = [make_post(number, "positive") for number in range(5)]
    references = [make_post(number, "positive", id=f"test-{number}", split="test") for number in range(5, 8)]
    settings = parameters(base_url=server.url)
    least = look(posts, references, settings, tmp_path / "ledger.jsonl").least
    annotate(posts, references, settings, tmp_path / "ledger.jsonl")
    assert least.requests == len(server.requests) == 8
    pricing = pricing_of(settings)
    asked = [Request(post, None, "reasoning") for post in posts] + [Request(p, None, "reference") for p in references]
    assert least.prompt_tokens == sum(pricing.prompt_tokens(request) for request in asked)
    assert least.answer_tokens == 8 * ANSWER_TOKENS
    assert least.cost_usd == pytest.approx((least.prompt_tokens + 4 * least.answer_tokens) / 1e6)
    after = look(posts, references, settings, tmp_path / "ledger.jsonl")
    assert (after.finished, after.remembered, after.most.requests, after.most.cost_usd) == (8, 8, 0, 0)


def test_the_most_is_every_answer_of_both_stages_unusable(server, parameters, make_post, tmp_path):
    server.reply = lambda body: "no"
    posts = [make_post(1), make_post(2)]
    references = [make_post(3, id="test-3", split="test")]
    settings = parameters(base_url=server.url, max_retries=2)
    most = look(posts, references, settings, tmp_path / "ledger.jsonl").most
    with pytest.raises(Exception, match="annotated none"):
        annotate(posts, references, settings, tmp_path / "ledger.jsonl")
    assert most.requests == len(server.requests) == 2 * 6 + 3
    assert most.answer_tokens == most.requests * settings.max_tokens


def test_without_answers_the_paper_s_shares_are_expected(parameters, make_post, tmp_path):
    found = look([make_post(1)], [], parameters(), tmp_path / "none.jsonl")
    answers = sum(UNUSABLE_SHARE**retry for retry in range(4))
    explained = 1 - (1 - UNUSABLE_SHARE**4) * STAGE_ONE_ACCURACY
    assert found.expected.requests == pytest.approx(answers * (1 + explained))
    assert pytest.approx(0.79) == 1 - UNUSABLE_SHARE**2
    assert found.least.requests < found.expected.requests < found.most.requests
    assert found.least.cost_usd < found.expected.cost_usd < found.most.cost_usd
    assert sum(remark.startswith("assumed") for remark in found.remarks) == 5


def test_answers_in_the_ledger_replace_the_assumptions(parameters, make_post, tmp_path):
    settings = parameters()
    posts = [make_post(number) for number in range(60)]
    asked = [Request(post, None, "reasoning") for post in posts]
    # Of forty posts in the ledger ten are wrong, each answer 100 tokens long: their explanations are still open.
    fill(tmp_path / "l.jsonl", asked[:30], settings, usage=Usage(prompt_tokens=1000, completion_tokens=100))
    wrong = {"text": reasoning_text(Sentiment.NEGATIVE), "usage": Usage(prompt_tokens=1000, completion_tokens=100)}
    fill(tmp_path / "l.jsonl", asked[30:40], settings, **wrong)
    found = look(posts, [], settings, tmp_path / "l.jsonl")
    assert (found.remembered, found.finished) == (40, 30)
    assert found.least.requests == 20 + 10
    assert found.expected.requests == pytest.approx(20 * 1.25 + 10)
    assert found.expected.answer_tokens == pytest.approx(100 * found.expected.requests)
    # The server counts 1,000 tokens a prompt.
    assert found.least.prompt_tokens == pytest.approx(30 * 1000, rel=0.05)
    assert found.expected.seconds == 1.0 * math.ceil(found.expected.requests / 16)
    assert not any(remark.startswith("assumed") for remark in found.remarks)


def test_a_retry_that_is_open_counts_from_where_it_stands(parameters, make_post, tmp_path):
    settings = parameters()
    post = make_post(1)
    fill(tmp_path / "l.jsonl", [Request(post, None, "reasoning")], settings, text="no")
    found = look([post], [], settings, tmp_path / "l.jsonl")
    assert (found.least.requests, found.most.requests) == (1, 3 + 4)
    reference = make_post(2, id="test-2", split="test")
    assert look([], [reference], settings, tmp_path / "l.jsonl").most.requests == 4


def test_the_time_follows_from_the_requests_in_flight(parameters, make_post, tmp_path):
    posts = [make_post(number) for number in range(120)]
    path = tmp_path / "none.jsonl"
    assert look(posts, [], parameters(max_concurrency=120), path).least.seconds == 5.0
    assert look(posts, [], parameters(max_concurrency=50), path).least.seconds == 15.0


def test_a_model_without_a_price_has_no_cost_and_says_so(parameters, make_post, tmp_path):
    found = look([make_post(1)], [], parameters(model="own"), tmp_path / "none.jsonl")
    assert found.expected.cost_usd is None
    assert "no price" in str(found)
    unknown = look([make_post(1)], [], parameters(model="unknown"), tmp_path / "none.jsonl")
    assert unknown.least.prompt_tokens == found.least.prompt_tokens - 100
    assert any("images are not counted" in remark for remark in unknown.remarks)


def test_posts_without_an_answer_in_an_empty_ledger_are_not_opened(parameters, make_post, tmp_path):
    found = look([make_post(1, image="nowhere.jpg")], [], parameters(), tmp_path / "none.jsonl")
    assert found.least.requests == 1


def test_the_offline_annotator_asks_nobody(make_post, tmp_path):
    found = look([make_post(1)], [], TeacherParameters(), tmp_path / "none.jsonl")
    assert (found.finished, found.most.requests) == (1, 0)
    assert found.model == "offline"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "1 h 00 min"), (4800, "1 h 20 min")]
)
def test_durations_are_in_words(seconds, words):
    assert duration(seconds) == words


def test_batches_cost_half_and_take_their_window(parameters, make_post, tmp_path):
    path = tmp_path / "none.jsonl"
    online, batch = (look([make_post(1)], [], parameters(mode=mode), path) for mode in ("online", "batch"))
    assert batch.expected.requests == online.expected.requests
    assert batch.expected.cost_usd == pytest.approx(online.expected.cost_usd / 2)
    assert "1 to 8 batches, one after the other, of up to 24h each" in str(batch)


def test_an_import_file_answers_stage_one(parameters, make_post, tmp_path):
    post = make_post(1, "negative")
    row = {"text": post.text, "aspect": post.aspect, "image_path": post.image, "cot": reasoning_text("positive")}
    path = tmp_path / "import.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    settings = parameters(provider="import", import_path=str(path), fallback_provider="openai")
    found = look([post, make_post(2)], [], settings, tmp_path / "none.jsonl")
    # The imported reasoning is wrong, so its explanation is open; the other post has both stages to go.
    assert (found.imported, found.least.requests, found.most.requests) == (1, 2, 4 + 8)


def test_a_tokenizer_counts_the_prompts_themselves(make_post, parameters, tmp_path):
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    post = make_post()
    made = parameters(tokenizer=str(tmp_path), structured_output="off", send="text")
    told = look([], [post], made, tmp_path / "ledger.jsonl")
    request = Request(post, None, "reference", send="text")
    overhead = pricing_of(made).prompt_tokens(request) - pricing_of(made).text_tokens(request)
    expected = len(request.messages[0].text.split()) * (1 + overhead / pricing_of(made).text_tokens(request))
    assert told.least.prompt_tokens == pytest.approx(expected)
    assert any("1 of the prompts tokenised with" in remark for remark in told.remarks)


@pytest.mark.parametrize(("content", "said"), [(None, "there is no"), ("{}", "is no tokenizer.json")])
def test_a_tokenizer_that_is_none_is_named(make_post, parameters, tmp_path, content, said):
    path = tmp_path / "tok.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TeacherError, match=said):
        look([make_post()], [], parameters(tokenizer=str(path)), tmp_path / "ledger.jsonl")
