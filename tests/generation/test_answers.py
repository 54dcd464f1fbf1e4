"""Generation: batches answer as single posts do, retries, and logs that survive kills."""

import json

import pytest
import torch

from mulcot_rd.generation import AnswerLog, GenerationParameters, answer_posts
from mulcot_rd.generation import answers as answers_module
from mulcot_rd.generation.answers import Answer, Generated
from mulcot_rd.generation.expansion import expansion_figures, keep_correct, student_rows
from mulcot_rd.reasoning import write
from mulcot_rd.schema import Sentiment
from mulcot_rd.training.roles import start_role

PARAMETERS = GenerationParameters(batch_size=4, max_new_tokens=12, max_label_tokens=6, max_retries=2)


@pytest.fixture
def role(backbone_parameters, prepared):
    made = start_role("assistant", backbone_parameters, prepared, image_size=56, seed=3)
    made.model.eval()
    return made


def _ask(role, posts, task="reasoning", parameters=PARAMETERS, log=None):
    return answer_posts(role.model, role.encoder, posts, task, parameters, seed=1, log=log, description="test")


def test_a_batch_answers_as_single_posts_do(role, posts):
    once = PARAMETERS.model_copy(update={"max_retries": 0})
    together = _ask(role, posts, parameters=once)
    alone = [_ask(role, [post], parameters=once)[0] for post in posts]
    assert [answer.text for answer in together] == [answer.text for answer in alone]


def test_answers_come_in_the_order_of_the_posts(role, posts):
    assert [answer.post_id for answer in _ask(role, posts[::-1])] == [post.id for post in posts[::-1]]


def test_columns_beyond_the_tokenizer_are_never_chosen(role, posts):
    head = role.model.get_base_model().lm_head.modules_to_save["default"]
    with torch.no_grad():
        head.weight[len(role.encoder.tokenizer) :] = 100.0
    assert all(answer.text.strip("\x00") != "" or answer.text == "" for answer in _ask(role, posts[:2]))
    assert all(len(answer.text) < 200 for answer in _ask(role, posts[:2]))


@pytest.fixture
def scripted(monkeypatch):
    """Answers from a script instead of a model; records what was asked."""
    asked = []

    def use(script):
        def generate(model, encoder, prompts, images, task, parameters, *, sample):
            asked.append((len(prompts), sample))
            return [Generated(script(len(asked), number), True) for number in range(len(prompts))]

        monkeypatch.setattr(answers_module, "_generate", generate)
        return asked

    return use


def test_unusable_answers_are_asked_again_at_most_so_often(role, posts, scripted):
    asked = scripted(lambda call, number: "no label here")
    answers = _ask(role, posts, task="label")
    assert [answer.attempts for answer in answers] == [3] * 6
    assert asked == [(4, False), (2, False), (4, True), (2, True), (4, True), (2, True)]


def test_a_usable_answer_is_kept_and_not_asked_again(role, posts, scripted):
    asked = scripted(lambda call, number: '"Prediction": positive' if call > 2 else "?")
    answers = _ask(role, posts, task="label")
    assert {answer.attempts for answer in answers} == {2}
    assert {answer.reasoning.prediction for answer in answers} == {"positive"}
    assert sum(rows for rows, _ in asked) == 12


def test_the_least_incomplete_answer_is_kept_where_none_is_usable(role, posts, scripted):
    scripted(lambda call, number: '"Text_analysis": "only this"\n"Prediction": negative' if call == 3 else "?")
    answers = _ask(role, posts[:1])
    assert answers[0].attempts == 3
    assert answers[0].reasoning.prediction == "negative"


def test_what_is_logged_is_not_asked_again_and_a_torn_line_is(role, posts, tmp_path, scripted):
    whole = _ask(role, posts, task="label")
    path = tmp_path / "answers.jsonl"
    _ask(role, posts, task="label", log=AnswerLog(path, "same"))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:6]) + lines[6][:20], encoding="utf-8")
    assert _ask(role, posts, task="label", log=AnswerLog(path, "same")) == whole
    assert path.read_text(encoding="utf-8").splitlines(keepends=True)[:6] == lines[:6]
    asked = scripted(lambda call, number: "never")
    assert _ask(role, posts, task="label", log=AnswerLog(path, "same")) == whole
    assert asked == []


def test_a_log_of_another_model_is_started_anew(tmp_path):
    log = AnswerLog(tmp_path / "log.jsonl", "one")
    log.add("label", ["a"], 1, [Generated("text", True)])
    assert AnswerLog(tmp_path / "log.jsonl", "one").get("label", "a", 1) == ("text", True)
    assert AnswerLog(tmp_path / "log.jsonl", "two").get("label", "a", 1) is None


def test_a_log_whose_first_line_is_torn_is_started_anew(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"finger')
    log = AnswerLog(tmp_path / "log.jsonl", "one")
    assert log.get("label", "a", 1) is None
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"fingerprint": "one"}


def test_expansion_keeps_complete_and_right_reasonings_alone(posts, reasonings):
    answers = [Answer(post_id=r.id, attempts=1, text=write(r.reasoning), finished=True) for r in reasonings]
    wrong = reasonings[1].reasoning.model_copy(update={"prediction": Sentiment.POSITIVE})
    answers[1] = answers[1].model_copy(update={"text": write(wrong)})
    answers[2] = answers[2].model_copy(update={"text": '"Prediction": neutral'})
    kept = keep_correct(posts, answers)
    assert [record.id for record in kept] == ["p0", "p3", "p4", "p5"]
    figures = expansion_figures(posts, answers, len(kept))
    assert (figures["samples"], figures["kept"]) == (6, 4)
    assert figures["accuracy"] == pytest.approx(5 / 6)
    rows = student_rows(reasonings, kept)
    assert [row.source for row in rows] == ["teacher"] * 6 + ["assistant"] * 4


@pytest.mark.parametrize("split", ["dev", "test"])
def test_expansion_refuses_posts_of_other_splits(posts, reasonings, split):
    answers = [Answer(post_id=r.id, attempts=1, text=write(r.reasoning), finished=True) for r in reasonings]
    stranger = [*posts[:-1], posts[-1].model_copy(update={"split": split})]
    with pytest.raises(ValueError, match="p5"):
        keep_correct(stranger, answers)


def test_a_cut_reasoning_is_asked_again_and_never_kept(role, posts, reasonings, monkeypatch):
    """Every key may be there and the last section still break off in the middle."""
    cut = write(reasonings[0].reasoning)

    def generate(model, encoder, prompts, images, task, parameters, *, sample):
        return [Generated(cut, False)] * len(prompts)

    monkeypatch.setattr(answers_module, "_generate", generate)
    answer = _ask(role, posts[:1])[0]
    assert (answer.attempts, answer.finished) == (3, False)
    assert keep_correct(posts[:1], [answer]) == []


@pytest.mark.parametrize("ends", [True, False])
def test_the_end_of_a_turn_is_noticed(role, posts, ends):
    once = PARAMETERS.model_copy(update={"max_retries": 0})
    head = role.model.get_base_model().lm_head.modules_to_save["default"]
    with torch.no_grad():
        # All logits equal: greedy decoding takes the first id, which pads; or never anything but that.
        head.weight.zero_()
        head.weight[role.encoder.tokenizer.eos_token_id if not ends else 0] = 0.0
    role.encoder.tokenizer.eos_token_id = 0 if ends else role.encoder.tokenizer.eos_token_id
    assert {answer.finished for answer in _ask(role, posts[:2], parameters=once)} == {ends}


def test_unusual_line_ends_in_an_answer_lose_nothing(tmp_path):
    log = AnswerLog(tmp_path / "log.jsonl", "one")
    log.add("label", ["a", "b"], 1, [Generated("x\u2028y\x85z", True), Generated("later", False)])
    again = AnswerLog(tmp_path / "log.jsonl", "one")
    assert again.get("label", "a", 1) == ("x\u2028y\x85z", True)
    assert again.get("label", "b", 1) == ("later", False)
