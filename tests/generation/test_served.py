"""A served model: the trained prompts, greedy first, sampled retries, and a ledger to go on from."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from tests.teacher.fault_server import FaultServer, text_of

from mulcot_rd import SentimentReasoner
from mulcot_rd.errors import UserError
from mulcot_rd.generation import GenerationParameters, kept_answers
from mulcot_rd.generation.served import served_answers
from mulcot_rd.images import load_image
from mulcot_rd.models.loaded import checkpoint_encoder
from mulcot_rd.prompts import TASKS, response_format
from mulcot_rd.reasoning import write, write_label
from mulcot_rd.teacher import TeacherError


@pytest.fixture
def any_encoder(backbone_parameters, checkpoint):
    return checkpoint_encoder(backbone_parameters, checkpoint, image_size=56)


@pytest.fixture
def encoder(any_encoder):
    if any_encoder.family.encoder_decoder:
        pytest.skip("a chat can't give a decoder its prefix")
    return any_encoder


@pytest.fixture
def reply(posts, reasonings):
    """Right answers, but that the first reasoning about p1 is cut."""
    asked = []

    def answer(body):
        text = text_of(body["messages"][0])
        number = next(number for number, post in enumerate(posts) if post.text in text)
        asked.append(number)
        if "Text_analysis" not in text:
            return write_label(posts[number].label)
        whole = write(reasonings[number].reasoning)
        if number == 1 and body["temperature"] == 0:
            return {"content": whole[:-20], "finish_reason": "length"}
        return whole

    return answer


def _ask(server, encoder, posts, tmp_path, mark="one", max_concurrency=4, max_request_retries=3):
    limits = {"max_concurrency": max_concurrency, "max_request_retries": max_request_retries}
    served = {"base_url": f"{server.url}", "model": "student", **limits}
    parameters = GenerationParameters(backend="served", served=served, max_retries=2)
    answers = served_answers(encoder, posts, TASKS, parameters, folder=tmp_path / mark)
    return kept_answers(answers, posts, TASKS)


def test_both_prompts_are_answered_and_a_cut_reasoning_is_asked_again(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply, models=("student",)).running() as server:
        answers = _ask(server, encoder, posts, tmp_path)
    assert [answer.reasoning.prediction for answer in answers["label"]] == [post.label for post in posts]
    assert [answer.attempt for answer in answers["reasoning"]] == [1, 2, 1, 1, 1, 1]
    assert not any(answer.shortcomings for answer in answers["reasoning"])
    sampling = [(body["temperature"], body["top_p"]) for body in server.requests if body["temperature"]]
    assert sampling == [(0.7, 0.9)]
    assert [body.get("top_p") for body in server.requests if not body["temperature"]] == [None] * 12
    first = server.requests[0]["messages"][0]["content"]
    assert [part["type"] for part in first] == ["image_url", "text"]
    assert all("response_format" not in body for body in server.requests)


@pytest.mark.parametrize("method", ["predict", "stream"])
def test_a_student_on_a_server_gives_verdicts(encoder, student, posts, reply, reasonings, method):
    with FaultServer(reply=reply, models=("student",)).running() as server:
        generation = GenerationParameters(backend="served", served={"base_url": server.url, "model": "student"})
        reasoner = SentimentReasoner.load(student, generation=generation)
        given = getattr(reasoner, method)(text=posts[0].text, image=posts[0].image, aspect=posts[0].aspect)
        verdict = given if method == "predict" else list(given)[-1]
    assert (verdict.label, verdict.probabilities) == (posts[0].label, None)
    assert verdict.final_conclusion == reasonings[0].final_conclusion
    assert verdict.agrees


def test_images_arrive_with_the_pixels_of_training(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply, models=("student",)).running() as server:
        _ask(server, encoder, posts[:1], tmp_path)
    image, _ = server.requests[0]["messages"][0]["content"]
    kind, _, data = image["image_url"]["url"].partition(";base64,")
    assert kind == "data:image/png"
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert np.array_equal(np.asarray(sent), np.asarray(load_image(posts[0].image, encoder.image_size)))


def test_the_prompts_of_a_post_follow_each_other_and_begin_alike(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply, models=("student",)).running() as server:
        _ask(server, encoder, posts, tmp_path, max_concurrency=1)
    first = [body["messages"][0] for body in server.requests if body["temperature"] == 0]
    assert len(first) == 2 * len(posts)
    for pair in zip(first[::2], first[1::2], strict=True):
        label, reasoning = sorted(pair, key=lambda turn: len(text_of(turn)))
        assert label["content"][0] == reasoning["content"][0]
        prefixes = {text_of(label).removesuffix(response_format("label"))}
        assert prefixes == {text_of(reasoning).removesuffix(response_format("reasoning"))}


def test_a_server_that_is_not_there_is_one_sentence_with_the_start_command(encoder, posts, tmp_path):
    with FaultServer().running() as server:
        pass
    with pytest.raises(TeacherError, match=f"{server.url} .*vllm serve FOLDER --served-model-name student --port"):
        _ask(server, encoder, posts, tmp_path)


def test_an_address_without_models_is_told_before_anything_is_asked(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply).running() as server:
        server.other = lambda method, *rest: (404, {}, "{}") if method == "GET" else None
        with pytest.raises(TeacherError, match=r"base_url, which most often ends in /v1"):
            _ask(server, encoder, posts, tmp_path)
    assert server.requests == []


def test_a_model_that_is_not_served_is_told_what_is(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply, models=("assistant", "another")).running() as server:
        said = "no model 'student', it serves: assistant, another;"
        with pytest.raises(TeacherError, match=said):
            _ask(server, encoder, posts, tmp_path)
    assert server.requests == []


def test_what_was_answered_needs_no_server(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply, models=("student",)).running() as server:
        whole = _ask(server, encoder, posts, tmp_path)
    assert _ask(server, encoder, posts, tmp_path) == whole


def test_a_decoder_with_a_prefix_is_refused(any_encoder, posts, tmp_path):
    if not any_encoder.family.encoder_decoder:
        pytest.skip("served")
    with FaultServer().running() as server, pytest.raises(UserError, match=r"generation\.backend at local"):
        _ask(server, any_encoder, posts, tmp_path)


def test_what_was_answered_is_not_asked_again_unless_the_model_changed(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply, models=("student",), faults=["503", "drop"]).running() as server:
        whole = _ask(server, encoder, posts, tmp_path)
        asked = len(server.requests)
        assert _ask(server, encoder, posts, tmp_path) == whole
        assert len(server.requests) == asked
        _ask(server, encoder, posts, tmp_path, mark="another")
        assert len(server.requests) > asked


def test_a_request_that_got_no_answer_is_no_empty_answer(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply, models=("student",)).running() as server:
        whole = _ask(server, encoder, posts, tmp_path, mark="whole")
        # It answers once, and is then down for a while.
        server.reply = lambda body: reply(body) if server.faults.append("503") is None else ""
        with pytest.raises(TeacherError, match=r"of 12 prompts got no answer, first post .*same command again"):
            _ask(server, encoder, posts, tmp_path, max_concurrency=1, max_request_retries=0)
        server.reply, server.faults = reply, []
        asked = len(server.requests)
        assert _ask(server, encoder, posts, tmp_path) == whole
    assert 0 < len(server.requests) - asked < 13


def test_a_server_must_be_named():
    with pytest.raises(ValidationError, match="base_url"):
        GenerationParameters(backend="served")
