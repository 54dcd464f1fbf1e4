"""Tables of the versions that are asked for: with what belongs to them, or without it and with a word on why."""

import pytest
from kedro.io.core import Version
from tests.datasets.conftest import bucket  # noqa: F401 - a fixture
from tests.reporting.test_collect import MODEL_COST

from mulcot_rd.datasets import JSONLinesDataset, ReplacedJSONDataset, RunFilesDataset
from mulcot_rd.errors import UserError
from mulcot_rd.reporting.collect import collect_tables
from mulcot_rd.schema import Post, Sentiment

RUN = "sample/arch4-tiny-full"
OLD, NEW = "2026-11-28T10.00.00.000Z", "2026-11-28T11.00.00.000Z"
FILES = {
    "reports": {"metrics.json": [""], "efficiency.json": [""], "quality.json": [""], "expansion.json": [""]},
    "outputs": {"assistant_test.jsonl": [""], "student_test.jsonl": [""]},
}


@pytest.fixture(params=["a folder", "s3"])
def root(request, tmp_path) -> str:
    return str(tmp_path) if request.param == "a folder" else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


@pytest.fixture
def evaluated(root, scores, make_prediction):
    """A function that saves what an evaluation of a student does, with records of what each was made from."""

    def save(version: str, right: int, *, recorded: bool = True) -> None:
        def put(dataset, data, **inputs):
            if recorded:
                parameters = {"student": {"max_new_tokens": right}} if "student_adapter" in inputs else {}
                dataset.record = {"inputs": inputs, "parameters": parameters}
            dataset.save(data)
            return {"version": version, "fingerprint": dataset.fingerprint()}

        # The same student, asked for longer or shorter answers.
        adapter = {"version": OLD, "fingerprint": "of the student"}
        posts = [Post(id=str(n), split="test", text="", aspect=None, image="", label="positive") for n in range(20)]
        answers = {}
        for model, number in (("assistant", 10), ("student", right)):
            dataset = JSONLinesDataset(
                filepath=f"{root}/outputs/{RUN}/{model}_test.jsonl",
                record="mulcot_rd.schema.PredictionRecord",
                version=Version(None, version),
            )
            labels = [Sentiment.POSITIVE if n < number else Sentiment.NEGATIVE for n in range(20)]
            data = [make_prediction(post, label) for post, label in zip(posts, labels, strict=True)]
            made_from = {"student_adapter": adapter} if model == "student" else {}
            answers[f"{model}_test"] = put(dataset, data, **made_from)
        info = {"dataset": "sample", "run": "arch4-tiny-full", "arch": 4, "scale": "tiny", "variant": "full"}
        info["seed"] = 42
        students = {**scores, "accuracy": right / 20}
        for name, data, made_from in (
            ("metrics", {"run": info, "assistant": {**scores, "accuracy": 0.5}, "student": students}, answers),
            ("quality", {"student": {"reasonings": right, "quotes": 1}}, answers),
            ("efficiency", {"student": {**MODEL_COST, "model": f"of {version}"}}, {"student_adapter": adapter}),
        ):
            path = f"{root}/reports/{RUN}/{name}.json"
            put(ReplacedJSONDataset(filepath=path, version=Version(None, version)), data, **made_from)

    return save


@pytest.fixture
def tables(root):
    """A function that lays the tables out, of the versions that are asked for."""

    def laid_out(**versions: str):
        folders = [
            RunFilesDataset(filepath=f"{root}/{name}", files=files, versions_of=versions)
            for name, files in FILES.items()
        ]
        return collect_tables(*(folder.load() for folder in folders), versions=versions)

    return laid_out


def told(tables) -> dict[str, list]:
    """What the tables say of the student: its accuracy, its answers, its cost, and the source."""
    scores = tables["table_scores"].frame
    student = scores[(scores["method"] == "student") & (scores["metric"] == "accuracy")]
    return {
        "accuracy": student["value"].tolist(),
        "compared": tables["table_comparisons"].frame["accuracy a"].tolist(),
        "cost": tables["table_12"].frame["method"].dropna().str.removeprefix("student, ").tolist()[-1:],
        "reasonings": tables["table_quality"].frame["reasonings"].tolist(),
        "version": [OLD in source for source in student["source"]],
    }


def test_tables_show_the_version_that_is_asked_for_with_what_belongs_to_it(evaluated, tables):
    evaluated(OLD, 12)
    evaluated(NEW, 16)
    newest = tables()
    assert told(newest) == {
        "accuracy": [80.0], "compared": [80.0], "cost": [f"of {NEW}"], "reasonings": [16], "version": [False]
    }  # fmt: skip
    older = tables(**{RUN: OLD})
    assert told(older) == {
        "accuracy": [60.0], "compared": [60.0], "cost": [f"of {OLD}"], "reasonings": [12], "version": [True]
    }  # fmt: skip
    for name, table in older.items():
        assert f"Taken in place of the newest metrics: {RUN}:{OLD}." in table.note
        assert OLD not in newest[name].note
    # The newest one asked for by name is the newest one.
    assert told(tables(**{RUN: NEW})) == told(newest)


def test_what_nothing_shows_to_belong_to_a_version_is_left_out(evaluated, tables, caplog):
    evaluated(OLD, 12, recorded=False)
    evaluated(NEW, 16)
    older = told(tables(**{RUN: OLD}))
    assert (older["accuracy"], older["compared"], older["reasonings"]) == ([60.0], [], [])
    assert "answers of run arch4-tiny-full on sample left out" in caplog.text
    assert f"nothing says which belong to its metrics of {OLD}" in caplog.text


def test_a_version_that_is_not_there_is_refused(evaluated, tables):
    evaluated(NEW, 16)
    for wanted, said in (
        ({RUN: "2026"}, f"there are: {NEW}"),
        ({"sample/other": OLD}, "of sample/other; kedro runs lists"),
    ):
        with pytest.raises(UserError, match=r"reporting\.versions: there is no version .*") as error:
            tables(**wanted)
        assert said in str(error.value)
