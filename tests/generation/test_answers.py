"""Answers of trained models: retries, and logs that survive kills."""

import json
from types import SimpleNamespace

import pytest

from mulcot_rd.generation import Answer, AnswerLog, GenerationParameters, answer_posts, kept_answers
from mulcot_rd.generation import answers as answers_module
from mulcot_rd.generation.answers import units
from mulcot_rd.models.inputs import Prompt
from mulcot_rd.models.loaded import fresh_model
from mulcot_rd.prompts import TASKS
from mulcot_rd.reasoning import write
from mulcot_rd.schema import Sentiment
from mulcot_rd.training.expansion import expansion_statistics, keep_correct, student_rows

PARAMETERS = GenerationParameters(batch_size=4, max_new_tokens=12, max_label_tokens=6, max_retries=2)
NO_RETRIES = GenerationParameters(max_retries=0)


@pytest.fixture
def role(backbone_parameters, checkpoint):
    made = fresh_model("assistant", backbone_parameters, checkpoint, image_size=56, seed=3)
    made.model.eval()
    return made


def _ask(role, posts, tasks=("reasoning",), log=None):
    given = answer_posts(role.model, role.encoder, posts, tasks, PARAMETERS, seed=1, log=log, description="test")
    answers = kept_answers(given, posts, tasks)
    return answers[tasks[0]] if len(tasks) == 1 else answers


def test_answers_come_in_the_order_of_the_posts(role, posts):
    assert [answer.post_id for answer in _ask(role, posts[::-1])] == [post.id for post in posts[::-1]]


@pytest.fixture
def scripted(monkeypatch):
    """Answers from a script instead of a model; records what was asked, group by group."""
    groups = []

    def use(script, finished=True):
        def scripted_answers(base, encoder, posts, prompts, parameters, *, seed):
            groups.append([post.id for post in posts])
            for post in posts:
                for task in prompts[post.id]:
                    for attempt in range(1, parameters.max_retries + 2):
                        answer = Answer(task, post.id, attempt, script(attempt), finished)
                        yield answer
                        if answer.is_last(parameters):
                            break

        monkeypatch.setattr(answers_module, "write_answers", scripted_answers)
        return groups

    return use


def test_unusable_answers_are_asked_again_at_most_so_often(role, posts, scripted):
    groups = scripted(lambda attempt: "no label here")
    answers = _ask(role, posts, tasks=("label",))
    assert [answer.attempt for answer in answers] == [3] * 6
    assert [len(group) for group in groups] == [3, 3]


def test_a_usable_answer_is_kept_and_not_asked_again(role, posts, scripted):
    scripted(lambda attempt: '"Prediction": positive' if attempt > 1 else "?")
    answers = _ask(role, posts, tasks=("label",))
    assert {answer.attempt for answer in answers} == {2}
    assert {answer.reasoning.prediction for answer in answers} == {"positive"}


def test_the_least_incomplete_answer_is_kept_where_none_is_usable(role, posts, scripted):
    scripted(lambda attempt: '"Text_analysis": "only this"\n"Prediction": negative' if attempt == 2 else "?")
    answers = _ask(role, posts[:1])
    assert answers[0].attempt == 3
    assert answers[0].reasoning.prediction == "negative"


@pytest.mark.parametrize("damage", ["gone", "torn", "both"])
def test_what_was_interrupted_ends_as_what_was_not(role, posts, tmp_path, scripted, damage):
    """Whole units are read from the log; one that is missing, or damaged even inside a line, is answered anew."""
    whole = _ask(role, posts, tasks=TASKS)
    same = {"model": "same"}
    assert _ask(role, posts, tasks=TASKS, log=AnswerLog(tmp_path, same)) == whole
    written = {path: path.read_bytes() for path in tmp_path.rglob("unit-*.jsonl")}
    first, second = written
    if damage != "torn":
        first.unlink()
    if damage != "gone":
        second.write_bytes(written[second][:-20])
    assert _ask(role, posts, tasks=TASKS, log=AnswerLog(tmp_path, same)) == whole
    assert {path: path.read_bytes() for path in tmp_path.rglob("unit-*.jsonl")} == written
    groups = scripted(lambda attempt: "never")
    assert _ask(role, posts, tasks=TASKS, log=AnswerLog(tmp_path, same)) == whole
    assert groups == []


def test_answers_that_earlier_versions_kept_in_one_file_are_found(role, posts, tmp_path, scripted):
    same = {"model": "same"}
    whole = _ask(role, posts, tasks=TASKS, log=AnswerLog(tmp_path, same))
    for path in tmp_path.rglob("unit-*.jsonl"):
        with AnswerLog(tmp_path, same).folder.with_suffix(".jsonl").open("ab") as stream:
            stream.write(path.read_bytes())
        path.unlink()
    groups = scripted(lambda attempt: "never")
    assert _ask(role, posts, tasks=TASKS, log=AnswerLog(tmp_path, same)) == whole
    assert groups == []


@pytest.mark.parametrize(("posts", "rows", "sizes"), [(6, 4, [3, 3]), (1, 4, [1]), (100, 4, [7] * 14 + [2])])
def test_units_are_many_enough_to_share_and_large_enough_to_fill_the_rows(posts, rows, sizes):
    made = [SimpleNamespace(id=f"{number:03}") for number in range(posts)]
    prompts = {post.id: {"label": Prompt([1], [])} for post in made}
    assert [len(unit) for unit in units(made, prompts, rows)] == sizes


def _label(post_id, text, finished=True):
    return Answer("label", post_id, 1, text, finished)


def _logged(log, post_id):
    """The logged answers of a post's label prompt, of which no retry was made."""
    return log.unit([SimpleNamespace(id=post_id)], ["label"], NO_RETRIES)


def test_answers_of_another_model_stay_beside_those_of_this_one(tmp_path, caplog):
    one, two = {"generation": {"max_new_tokens": 24}}, {"generation": {"max_new_tokens": 32}}
    AnswerLog(tmp_path, one).add([_label("a", "text")])
    with caplog.at_level("INFO"):
        assert _logged(AnswerLog(tmp_path, two), "a") is None
    assert "generation.max_new_tokens: 24 -> 32" in caplog.text
    assert _logged(AnswerLog(tmp_path, one), "a") == [_label("a", "text")]


def test_a_unit_that_lacks_a_sample_is_written_anew(tmp_path):
    log = AnswerLog(tmp_path, {"model": "one"})
    usable = '"Prediction": positive'
    log.add([_label("a", usable), _label("a", usable)._replace(attempt=2)])
    asked = [SimpleNamespace(id="a")], ["label"]
    assert len(log.unit(*asked, NO_RETRIES)) == 1
    assert [answer.attempt for answer in log.unit(*asked, GenerationParameters(max_retries=0, samples=1))] == [1, 2]
    assert log.unit(*asked, GenerationParameters(max_retries=0, samples=2)) is None


def test_a_log_whose_first_line_is_torn_is_started_anew(tmp_path):
    path = AnswerLog(tmp_path, {"model": "one"}).folder.with_suffix(".jsonl")
    path.write_text('{"finger')
    log = AnswerLog(tmp_path, {"model": "one"})
    assert _logged(log, "a") is None
    assert json.loads(path.read_text())["made_from"] == {"model": "one"}


@pytest.mark.parametrize(
    "damage", [(b"text one", b"text onf"), (b"text one", b"text \xff\xfe"), (b'"attempt"', b'"attempt')]
)
def test_an_answer_that_was_changed_on_disk_is_asked_again(tmp_path, damage, caplog):
    log = AnswerLog(tmp_path, {"model": "one"})
    answers = [_label("a", "text one"), _label("b", "text two")]
    log.add(answers)
    (unit,) = log.folder.iterdir()
    good = unit.read_bytes()
    unit.write_bytes(good.replace(*damage, 1))
    again = AnswerLog(tmp_path, {"model": "one"})
    assert "1 lines are torn or damaged" in caplog.text
    assert _logged(again, "a") is None
    assert _logged(again, "b") == answers[1:]
    again.add(answers)
    assert unit.read_bytes() == good


def test_unusual_line_ends_in_an_answer_lose_nothing(tmp_path):
    log = AnswerLog(tmp_path, {"model": "one"})
    log.add([_label("a", "x\u2028y\x85z"), _label("b", "l", finished=False)])
    again = AnswerLog(tmp_path, {"model": "one"})
    assert _logged(again, "a") == [_label("a", "x\u2028y\x85z")]
    assert _logged(again, "b") == [_label("b", "l", finished=False)]


def test_a_cut_reasoning_is_asked_again_and_never_kept(role, posts, reasonings, scripted):
    """Every key may be there and the last section still break off in the middle."""
    cut = write(reasonings[0].reasoning)
    scripted(lambda attempt: cut, finished=False)
    answer = _ask(role, posts[:1])[0]
    assert (answer.attempt, answer.finished) == (2, False)
    assert keep_correct(posts[:1], [answer]) == []


@pytest.mark.parametrize(
    ("task", "given", "last"),
    [
        ("reasoning", [("cut", False)], False),
        ("reasoning", [("cut", False), ("cut", False)], True),
        ("reasoning", [("ended", True), ("cut", False)], True),
        ("reasoning", [("cut", False), ("ended", True)], False),
        ("reasoning", [("ended", True)] * 3, False),
        ("reasoning", [("ended", True)] * 4, True),
        # A request that a server refused.
        ("reasoning", [("", False, "too long")], True),
        ("label", [("cut", False)] * 3, False),
    ],
)
def test_three_retries_but_none_after_one_that_never_ended(task, given, last):
    answers = [Answer(task, "p", number, *each) for number, each in enumerate(given, start=1)]
    assert not any(answer.is_last(GenerationParameters()) for answer in answers[:-1])
    assert answers[-1].is_last(GenerationParameters()) is last


def test_the_log_says_once_that_answers_do_not_end(role, posts, reasonings, scripted, caplog):
    caplog.set_level("INFO")
    scripted(lambda attempt: "on and on", finished=False)
    _ask(role, posts, tasks=TASKS)
    (said,) = [record.message for record in caplog.records if "max_new_tokens" in record.message]
    assert said.startswith("test: 6 of the first 6 reasoning answers (100.0 percent) went on to max_new_tokens=12")
    caplog.clear()
    scripted(lambda attempt: write(reasonings[0].reasoning))
    _ask(role, posts, tasks=TASKS)
    assert "max_new_tokens" not in caplog.text


def test_expansion_keeps_complete_and_right_reasonings_alone(posts, reasonings):
    answers = [Answer("reasoning", r.id, 1, write(r.reasoning), True) for r in reasonings]
    wrong = reasonings[1].reasoning.model_copy(update={"prediction": Sentiment.POSITIVE})
    answers[1] = answers[1]._replace(text=write(wrong))
    answers[2] = answers[2]._replace(text='"Prediction": neutral')
    kept = keep_correct(posts, answers)
    assert [record.id for record in kept] == ["p0", "p3", "p4", "p5"]
    invented = reasonings[3].reasoning.model_copy(update={"text_analysis": "It says 'nowhere in the post'."})
    answers[3] = answers[3]._replace(text=write(invented))
    assert "p3" in {record.id for record in keep_correct(posts, answers)}
    assert "p3" not in {record.id for record in keep_correct(posts, answers, faithful=True)}
    figures = expansion_statistics(posts, answers, len(kept), seed=1)
    assert (figures["samples"], figures["kept"]) == (6, 4)
    assert figures["accuracy"] == pytest.approx(5 / 6)
    rows = student_rows(reasonings, kept)
    assert [row.source for row in rows] == ["teacher"] * 6 + ["assistant"] * 4


@pytest.mark.parametrize("split", ["dev", "test"])
def test_expansion_refuses_posts_of_other_splits(posts, reasonings, split):
    answers = [Answer("reasoning", r.id, 1, write(r.reasoning), True) for r in reasonings]
    stranger = [*posts[:-1], posts[-1].model_copy(update={"split": split})]
    with pytest.raises(ValueError, match="p5"):
        keep_correct(stranger, answers)
