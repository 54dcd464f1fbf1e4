"""The reporting pipeline on whatever is on disk: nothing but posts, or runs of other data sets."""

import json

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.runner import SequentialRunner
from kedro_datasets.pandas import ParquetDataset
from PIL import Image
from tests.project.conftest import load

from mulcot_rd.datasets import FigureDataset, JSONLinesDataset, PathDataset, ReportTableDataset
from mulcot_rd.errors import StaleInputError
from mulcot_rd.hooks import MissingInputError, check_inputs, default_parameters, fill_optional_inputs
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipelines.evaluation import create_pipeline as evaluation
from mulcot_rd.pipelines.reporting import create_pipeline
from mulcot_rd.pipelines.reporting.nodes import draw_training_curves, show_case_study
from mulcot_rd.reporting.collect import TABLES
from mulcot_rd.reporting.histories import read_loss_histories
from mulcot_rd.reporting.parameters import ReportingParameters
from mulcot_rd.schema import Post, PredictionRecord, Reasoning, Sentiment


@pytest.fixture
def posts(tmp_path) -> list[Post]:
    made = []
    for number in range(12):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (30, 30), "teal").save(path)
        label = list(Sentiment)[number % 3]
        split = "train" if number < 6 else "test"
        made.append(Post(id=str(number), split=split, text=f"a day {label}", aspect=None, image=str(path), label=label))
    return made


@pytest.fixture
def catalog(tmp_path, posts) -> DataCatalog:
    run = RunParameters(
        dataset="sample",
        arch=4,
        scale="tiny",
        variant="full",
        name="arch4-tiny-full",
        raw_dir="",
        seed=42,
        engine="local",
    )
    files = {"metrics": "metrics.json", "efficiency": "efficiency.json", "quality": "quality.json", "calibration": "c"}
    files |= {"teacher_references": "references.jsonl", "run_config": "config.yml", "teacher_report": "report.md"}
    files |= {"assistant_test": "at"}
    missing = {
        name: JSONLinesDataset(filepath=str(tmp_path / file), record="mulcot_rd.schema.PredictionRecord")
        for name, file in {
            **files,
            "student_test": "t",
            "assistant_adapter": "a",
            "student_adapter": "s",
            "student_preference_test": "p",
            "student_preference_adapter": "q",
        }.items()
    }
    folders = {"reports": "08_reporting", "outputs": "07_model_output", "models": "06_models"}
    return DataCatalog(
        {
            "posts": MemoryDataset(pd.DataFrame([post.model_dump(mode="json") for post in posts])),
            "params:run_settings": MemoryDataset(run),
            "default_parameters": MemoryDataset(default_parameters(load())),
            "params:reporting": MemoryDataset(ReportingParameters()),
            **missing,
            **{f"all_{name}": PathDataset(filepath=str(tmp_path / path)) for name, path in folders.items()},
            "metrics_lineage": MemoryDataset([]),
            **{
                name: ReportTableDataset(filepath=str(tmp_path / "tables" / name))
                for name in (*TABLES, "result_table", "quality_table")
            },
            **{name: FigureDataset(filepath=str(tmp_path / name)) for name in ("training_curves", "confidence_figure")},
        }
    )


def test_posts_alone_are_enough(catalog, tmp_path, caplog):
    pipeline = create_pipeline()
    fill_optional_inputs(pipeline, catalog)
    check_inputs(pipeline, catalog)
    outputs = SequentialRunner().run(pipeline, catalog)
    assert "metrics (" in caplog.text
    assert "is not on disk: the reports leave it out" in caplog.text
    assert catalog.load("result_table")["method"].tolist()[0] == "majority class"
    assert "No test post is answered yet" in outputs["report"].load()
    assert "has answered no test post yet" in outputs["case_study"].load()
    for name in (f"figure_{number}" for number in (3, 5, 7, 8, 9)):
        outputs[name].load().savefig(tmp_path / f"{name}.png", dpi=20)
    for name in TABLES:
        assert {file.suffix for file in (tmp_path / "tables").glob(f"{name}.*")} == {".md", ".csv", ".tex"}


def test_runs_of_other_data_sets_are_reported(catalog, tmp_path):
    folder = tmp_path / "08_reporting" / "twitter2015" / "arch1-tiny-full"
    folder.mkdir(parents=True)
    info = {
        "dataset": "twitter2015",
        "run": "arch1-tiny-full",
        "arch": 1,
        "scale": "tiny",
        "variant": "full",
        "seed": 42,
    }
    (folder / "metrics.json").write_text(json.dumps({"run": info, "student": {"accuracy": 0.5}}), encoding="utf-8")
    adapter = tmp_path / "06_models" / "twitter2015" / "arch1-tiny-full" / "student"
    adapter.mkdir(parents=True)
    manifest = {
        "role": "student",
        "backbone": {"model": "./checkpoints/smol"},
        "task_weights": {"reasoning": 0.8, "label": 0.2},
    }
    (adapter / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    rows = [{"epoch": 1, "step": 1, "label_loss": 2.0, "reasoning_loss": 3.0}, {"epoch": 1, "step": 1, "score": 0.5}]
    (adapter / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pipeline = create_pipeline()
    fill_optional_inputs(pipeline, catalog)
    outputs = SequentialRunner().run(pipeline, catalog)
    assert catalog.load("table_4")["run"].dropna().tolist() == ["arch1-tiny-full"]
    title = outputs["figure_5"].load().axes[0].get_title()
    assert "twitter2015, arch1-tiny, student" in title
    assert "measured; models: smol" in title


def test_losses_are_alike_where_trainings_differ_in_their_weights_alone(tmp_path):
    def alike(role, *, taught="by one", rate=0.1, label=0.2, rows="by one"):
        weights = {"label": label, "reasoning": 1 - label}
        optimisation = {"learning_rate": rate}
        assistant = {"training_rows": taught, "training": {"weights": weights, "optimisation": optimisation}}
        own = {"hard": weights, "soft": weights, "kd_ratio": 0.3}
        student = {"training_rows": rows, "training": {"weights": own, "optimisation": optimisation}}
        for name, made_from in (("assistant", assistant), ("student", student)):
            folder = tmp_path / "sample" / "arch4-tiny-full" / name
            folder.mkdir(parents=True, exist_ok=True)
            manifest = {
                "fingerprint": "", "role": name, "backbone": {"model": None}, "task_weights": weights,
                "made_from": made_from, "files": {},
            }  # fmt: skip
            (folder / "manifest.json").write_text(json.dumps(manifest))
            (folder / "history.jsonl").write_text('{"step": 1, "label_loss": 2.0, "reasoning_loss": null}\n')
        (found,) = [history for history in read_loss_histories(tmp_path) if history.role == role]
        return found.made_from

    for role in ("assistant", "student"):
        usual = alike(role)
        assert alike(role, label=0.5, rows="and by an assistant of other weights") == usual
        assert alike(role, taught="by another") != usual
        assert alike(role, rate=0.2) != usual


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("manifest.json", b'{"role', "manifest.json or history.jsonl beside it: the file: Invalid JSON"),
        ("manifest.json", b'{"role": "student", "backbone": {}}', "backbone.model: Field required"),
        ("manifest.json", b"\x1f\x8b", "manifest.json is compressed with gzip"),
        ("history.jsonl", b"no\n", "history.jsonl: line 1 is no JSON object"),
        ("history.jsonl", b'{"label_loss": 1.0}\n', "step: Field required"),
        ("history.jsonl", None, "history.jsonl can't be opened (No such file or directory)"),
    ],
)
def test_broken_files_of_one_model_leave_its_losses_out(tmp_path, caplog, name, written, said):
    for run in ("arch1-tiny-full", "arch2-tiny-full"):
        folder = tmp_path / "sample" / run / "student"
        folder.mkdir(parents=True)
        manifest = {"role": "student", "backbone": {"model": None}, "task_weights": {"reasoning": 0.8, "label": 0.2}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "history.jsonl").write_text('{"step": 1, "label_loss": 2.0, "reasoning_loss": null}\n')
    broken = folder / name
    broken.unlink() if written is None else broken.write_bytes(written)
    assert [history.run for history in read_loss_histories(tmp_path)] == ["arch1-tiny"]
    assert said in caplog.text
    assert "losses of run arch2-tiny-full on sample left out" in caplog.text


def test_the_case_study_of_a_run_whose_posts_are_gone_is_refused(catalog, posts, make_prediction):
    gone = posts[-1]
    frame = pd.DataFrame([post.model_dump(mode="json") for post in posts[:-1]])
    run = catalog.load("params:run_settings")
    with pytest.raises(StaleInputError, match=f"student_test.jsonl was made .* names post {gone.id}, which is not in"):
        show_case_study(frame, [make_prediction(gone, gone.label)], [], {}, ReportingParameters(), run)


def test_pictures_name_models_that_stand_in_for_the_architectures_own(catalog, tmp_path, posts):
    """A checkpoint of one's own is no model of the paper: neither beside its curves nor beside what it wrote."""
    adapter = tmp_path / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "history.jsonl").write_text(json.dumps({"epoch": 1, "step": 1, "score": 0.5}) + "\n")
    made = {
        "role": "student",
        "trained": True,
        "folder": str(adapter),
        "backbone": {"model": "Qwen/Qwen3-VL-2B-Thinking"},
        "best_epoch": 1,
    }
    run = catalog.load("params:run_settings").model_copy(update={"scale": "full", "limit": 64})
    words = "measured; models: Qwen/Qwen3-VL-2B-Thinking; first 64 posts a split"
    assert words in draw_training_curves({}, made, run).get_suptitle()
    (post,) = [post for post in posts if post.split == "test"][:1]
    empty = dict.fromkeys((*Reasoning().sections, "raw_text", "raw_label_text"), "") | dict.fromkeys(
        ("prediction", "reasoning_prediction")
    )
    answer = PredictionRecord(id=post.id, label=post.label, attempts=4, label_attempts=4, **empty)
    frame = pd.DataFrame([post.model_dump(mode="json") for post in posts])
    case_study = show_case_study(frame, [answer], [], made, ReportingParameters(), run)
    title = f"Figure 4, case study: sample, arch4-tiny-full, student: {words}"
    assert f'<h1 style="font-size: 1.2em">{title}</h1>' in case_study


def test_other_pipelines_still_refuse_what_is_missing(catalog):
    with pytest.raises(MissingInputError):
        pipeline = Pipeline([node for node in evaluation().nodes if node.name == "measure_costs"])
        fill_optional_inputs(pipeline, catalog)
        check_inputs(pipeline, catalog)


def test_posts_are_never_optional(catalog):
    catalog["posts"] = ParquetDataset(filepath="nowhere/posts.parquet")
    pipeline = create_pipeline()
    fill_optional_inputs(pipeline, catalog)
    with pytest.raises(MissingInputError, match="data_preparation"):
        check_inputs(pipeline, catalog)
