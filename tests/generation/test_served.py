"""A served model: the trained prompts, greedy first, sampled retries, and a ledger to go on from."""

import pytest
from pydantic import ValidationError
from tests.teacher.fault_server import FaultServer, text_of

from mulcot_rd.generation import AnswerLog, GenerationParameters, answer_posts
from mulcot_rd.models.loaded import checkpoint_encoder
from mulcot_rd.prompts import TASKS
from mulcot_rd.reasoning import write, write_label


@pytest.fixture
def encoder(backbone_parameters, checkpoint):
    made = checkpoint_encoder(backbone_parameters, checkpoint, image_size=56)
    if not made.sees_images:
        pytest.skip("a text-only model is asked by the same code, with captions")
    return made


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


def _ask(server, encoder, posts, tmp_path, mark="one"):
    served = {"base_url": f"{server.url}", "model": "student", "max_concurrency": 4}
    parameters = GenerationParameters(backend="served", served=served, max_retries=2)
    log = AnswerLog(tmp_path, {"model": mark})
    return answer_posts(None, encoder, posts, TASKS, parameters, seed=1, log=log, description="test")


def test_both_prompts_are_answered_and_a_cut_reasoning_is_asked_again(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply).running() as server:
        answers = _ask(server, encoder, posts, tmp_path)
    assert [answer.reasoning.prediction for answer in answers["label"]] == [post.label for post in posts]
    assert [answer.attempt for answer in answers["reasoning"]] == [1, 2, 1, 1, 1, 1]
    assert not any(answer.shortcomings for answer in answers["reasoning"])
    assert sorted(body["temperature"] for body in server.requests) == [0.0] * 12 + [0.7]
    first = server.requests[0]["messages"][0]["content"]
    assert [part["type"] for part in first] == ["image_url", "text"]
    assert all("response_format" not in body for body in server.requests)


def test_what_was_answered_is_not_asked_again_unless_the_model_changed(encoder, posts, reply, tmp_path):
    with FaultServer(reply=reply, faults=["503", "drop"]).running() as server:
        whole = _ask(server, encoder, posts, tmp_path)
        asked = len(server.requests)
        assert _ask(server, encoder, posts, tmp_path) == whole
        assert len(server.requests) == asked
        _ask(server, encoder, posts, tmp_path, mark="another")
        assert len(server.requests) > asked


def test_a_server_must_be_named():
    with pytest.raises(ValidationError, match="base_url"):
        GenerationParameters(backend="served")
