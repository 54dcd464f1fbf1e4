"""What was made from posts is refused beside other ones, wherever a run starts."""

import pandas as pd
import pytest

from mulcot_rd.credentials import Credentials
from mulcot_rd.errors import StaleInputError, UserError
from mulcot_rd.frames import posts_from_frame, posts_to_frame
from mulcot_rd.generation import GenerationParameters
from mulcot_rd.ingest import IngestParameters
from mulcot_rd.metrics.efficiency import EfficiencyParameters
from mulcot_rd.models import AdapterParameters, BackboneParameters
from mulcot_rd.parameters import InputParameters, MethodParameters, RunParameters
from mulcot_rd.pipelines.data_expansion.nodes import join_training_set
from mulcot_rd.pipelines.evaluation.nodes import record_config, score_quality, score_run
from mulcot_rd.pipelines.posts import checked_posts, with_fingerprints
from mulcot_rd.pipelines.reporting.nodes import report_run
from mulcot_rd.schema import InputView, Post, PredictionRecord, Sentiment, TeacherRecord
from mulcot_rd.teacher import QuarantinedPost, TeacherParameters
from mulcot_rd.teacher.judge import JudgeParameters
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.manifest import check_fits
from mulcot_rd.training.parameters import AssistantTrainingParameters, ModelParameters, OptimisationParameters
from mulcot_rd.training.soft_labels import SoftLabelParameters

SECTIONS = dict.fromkeys(("text_analysis", "image_analysis", "conflict_resolution", "final_conclusion"), "It says so.")
RUN = RunParameters(
    dataset="mine", arch=4, scale="tiny", variant="full", name="a-run", raw_dir="", seed=42, engine="local", limit=3
)

BACKBONE = BackboneParameters(
    family="qwen3_vl", model="some/model", dtype="float32", adapter=AdapterParameters(full=True)
)
ROLE = ModelParameters(
    backbone=BACKBONE, training=AssistantTrainingParameters(optimisation=OptimisationParameters()),
    generation=GenerationParameters(), inputs=InputParameters(), seed=1,
    method=MethodParameters(
        input_view=InputView(), tasks=["label"], assistant=True, trained=True, task_weights={"label": 1.0}
    ),
)  # fmt: skip
PARAMETERS = {
    "assistant": ROLE, "student": ROLE, "teacher": TeacherParameters(), "soft_labels": SoftLabelParameters(),
    "ingest": IngestParameters(), "efficiency": EfficiencyParameters(), "judge": JudgeParameters(),
}  # fmt: skip


def post(number: int, split: str, **changed) -> Post:
    given = {"text": f"day {number}", "aspect": "day", "image": f"raw/images/{number}.jpg", "label": "positive"}
    return Post(id=f"{split}-{number}", split=split, **{**given, **changed})


POSTS = [post(number, split) for split in ("train", "dev", "test") for number in range(3)]


def taught(posts) -> list[TeacherRecord]:
    records = [
        TeacherRecord(**SECTIONS, prediction=p.label, id=p.id, stage=1, label=p.label, attempts=1, model="m")
        for p in posts
    ]
    return with_fingerprints(records, posts)


def answered(posts) -> list[PredictionRecord]:
    records = [
        PredictionRecord(
            **SECTIONS, id=p.id, label=p.label, prediction=p.label, reasoning_prediction=p.label,
            raw_text="It says so.", raw_label_text="", attempts=1, label_attempts=1,
        )
        for p in posts
    ]  # fmt: skip
    return with_fingerprints(records, posts)


def of(split: str) -> list[Post]:
    return [p for p in POSTS if p.split == split]


def other(number: int, **changed) -> pd.DataFrame:
    """The posts, one of them changed."""
    return posts_to_frame([p.model_copy(update=changed) if n == number else p for n, p in enumerate(POSTS)])


def table(posts=POSTS) -> pd.DataFrame:
    return posts_to_frame(list(posts))


OTHERS = {
    "another label": (other(1, label=Sentiment.NEGATIVE), "train-1 has another"),
    "another text": (other(1, text="night 1"), "train-1 has another"),
    "another aspect": (other(1, aspect=None), "train-1 has another"),
    "another image": (other(1, image="raw/images/9.jpg"), "train-1 has another"),
    "moved": (other(1, split="dev"), "train-1, which is not in the training split"),
    "one less": (table(POSTS[1:]), "train-0, which is not in the training split"),
    "one more": (table([*POSTS, post(9, "train")]), "no row of post train-9"),
}


@pytest.mark.parametrize(("posts", "words"), OTHERS.values(), ids=OTHERS)
def test_reasonings_and_training_rows_of_other_posts_are_refused(posts, words):
    reasoning = taught(of("train"))
    with pytest.raises(StaleInputError, match=rf"^teacher_reasoning\.jsonl .*{words}.*run=NAME"):
        checked_posts(posts, {"teacher_reasoning": reasoning}, [])
    with pytest.raises(StaleInputError, match=rf"^student_training_set\.jsonl .*{words}"):
        checked_posts(posts, {"student_training_set": teacher_rows(reasoning)}, [])
    with pytest.raises(StaleInputError, match=words):
        join_training_set(posts, reasoning, [], [])


def test_the_same_posts_are_taken_wherever_their_images_lie_and_less_what_is_in_quarantine():
    elsewhere = table([p.model_copy(update={"image": f"/mnt/{p.id[-1]}.jpg"}) for p in POSTS])
    reasoning = taught(of("train"))
    records = {"teacher_reasoning": reasoning, "student_training_set": teacher_rows(reasoning)}
    assert checked_posts(elsewhere, records, []) == posts_from_frame(elsewhere)
    quarantine = [QuarantinedPost(id="train-2", label="positive", reason="no usable answer", answers=())]
    checked_posts(table(), {"teacher_reasoning": reasoning[:2]}, quarantine)
    assert len(join_training_set(table(), reasoning[:2], quarantine, [])) == 2
    with pytest.raises(StaleInputError, match="no row of post train-2"):
        checked_posts(table(), {"teacher_reasoning": reasoning[:2]}, [])


def test_rows_of_earlier_versions_are_checked_by_id_and_label():
    old = [record.model_copy(update={"post_fingerprint": None}) for record in taught(of("train"))]
    checked_posts(OTHERS["another text"][0], {"teacher_reasoning": old}, [])
    with pytest.raises(StaleInputError, match="train-1 has another"):
        checked_posts(OTHERS["another label"][0], {"teacher_reasoning": old}, [])


def test_a_row_carries_its_posts_fingerprint_into_the_training_set():
    reasoning = taught(of("train"))
    assert [row.post_fingerprint for row in teacher_rows(reasoning)] == [r.post_fingerprint for r in reasoning]
    assert len({record.post_fingerprint for record in reasoning}) == 3


@pytest.mark.parametrize(
    ("posts", "words"),
    [
        (other(7, label=Sentiment.NEGATIVE), r"test-1 has another"),
        (table(POSTS[:-1]), r"test-2, which is not in the test split"),
        (table([*POSTS, post(9, "test")]), r"student_test\.jsonl .*no row of post test-9"),
    ],
)
def test_answers_to_other_posts_are_not_scored(posts, words):
    references = taught(of("test"))[:2] if "9" in words else []
    records = {"teacher_references": references, "assistant_test": [], "student_test": answered(of("test"))}
    with pytest.raises(StaleInputError, match=words):
        checked_posts(posts, records, [])


def test_qualities_of_answers_whose_post_is_gone_are_refused(tmp_path):
    about = (JudgeParameters(), Credentials(), tmp_path / "ledger.jsonl")
    with pytest.raises(StaleInputError, match=r"^student_test\.jsonl .*test-2, which is not in the test split"):
        score_quality(table(POSTS[:-1]), [], answered(of("test")), [], *about)
    assert score_quality(table(), [], answered(of("test")), [], *about)["student"]["reasonings"] == 3


def scored(posts=POSTS, limit=3, references=None, missing=0):
    """metrics.json of a student that answered the test posts."""
    test = [p for p in posts if p.split == "test"]
    summary = {"models": {"m": 3}, "references": {"missing": missing}}
    adapter = {"config": ROLE.model_dump(mode="json"), "training_rows": 3}
    run = RUN.model_copy(update={"limit": limit})
    config = record_config(summary, adapter, {}, adapter, PARAMETERS, run)
    references = taught(test) if references is None else references
    return score_run(table(posts), [], [], answered(test), references, summary, config, {})


def test_a_student_of_aspects_is_not_scored_on_whole_posts():
    about = {"role": "student", "folder": "trained", "made_from": {}, "asked_about": ["aspect"]}
    mixed = [*POSTS, post(9, "test", aspect=None)]
    with pytest.raises(UserError, match="prompts about the aspect, and test posts at hand need some about the post"):
        check_fits(about, mixed, ROLE, elsewhere=True)
    with pytest.raises(StaleInputError, match="training and dev posts at hand are not those"):
        check_fits({**about, "posts": "others"}, mixed, ROLE)


def test_metrics_say_what_was_scored():
    metrics = scored()
    assert metrics["run"]["limit"] == 3
    assert {split: metrics["dataset"][split] for split in ("train", "dev", "test")} == dict.fromkeys(
        ("train", "dev", "test"), 3
    )
    # The same posts, whatever the limit that cut nothing of them.
    for limit in (None, 50):
        whole = scored(limit=limit)
        assert (whole["run"]["limit"], whole["run"]["posts"]) == (None, metrics["run"]["posts"])
    assert scored([*POSTS, post(3, "dev")])["run"]["posts"] != metrics["run"]["posts"]
    with pytest.raises(StaleInputError, match="teacher_references"):
        scored(references=taught(of("test"))[:2])
    assert scored(references=taught(of("test"))[:2], missing=1)["teacher"]["posts"] == 3


def test_a_result_table_is_not_made_beside_baselines_of_other_posts():
    metrics = scored()
    frame = report_run(metrics, {}, table(), {}, PARAMETERS, RUN).frame
    assert "student" in frame["method"].tolist()
    with pytest.raises(StaleInputError, match="a-run on mine is of other posts"):
        report_run(metrics, {}, table([*POSTS, post(3, "dev")]), {}, PARAMETERS, RUN)
