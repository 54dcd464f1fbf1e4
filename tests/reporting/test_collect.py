import json

import pandas as pd
import pytest

from mulcot_rd.errors import UserError
from mulcot_rd.reporting.collect import TABLES, collect_tables
from mulcot_rd.reporting.costs import COMPUTED
from mulcot_rd.reporting.published import published
from mulcot_rd.reporting.sources import MEASURED_TINY
from mulcot_rd.reporting.writers import table_texts
from mulcot_rd.schema import Post, Sentiment

COST = {
    "tflops": 0.0004,
    "latency_ms_median": 66.3,
    "latency_ms_p90": 73.2,
    "posts": 5,
    "memory_gb": 0.72,
    "memory_of": "process, resident",
}
MODEL_COST = {
    "model": "tiny qwen2_5_vl",
    "device": "Some CPU, 1 thread",
    "dtype": "float32",
    "parameters": 1_832_960,
    "trainable_parameters": 1_749_632,
    "trainable_percent": 95.454,
    "prompts": {"label": COST, "reasoning": COST},
}


@pytest.fixture
def add_run(tmp_path, scores, make_prediction):
    """Writes the files of a run as the evaluation does."""

    def add(dataset, run, /, *, scale="tiny", variant="full", seed=42, arch=4, costs=False, right=None, **parts):
        info = {"dataset": dataset, "run": run, "arch": arch, "scale": scale, "variant": variant, "seed": seed}
        folder = tmp_path / "reports" / dataset / run
        folder.mkdir(parents=True)
        metrics = {"run": info, "assistant": scores, "student": scores, **parts}
        (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        if costs:
            both = {"assistant": MODEL_COST, "student": MODEL_COST}
            (folder / "efficiency.json").write_text(json.dumps(both), encoding="utf-8")
        for model, right_posts in (right or {}).items():
            output = tmp_path / "outputs" / dataset / run
            output.mkdir(parents=True, exist_ok=True)
            lines = []
            for number in range(20):
                post = Post(id=str(number), split="test", text="", aspect=None, image="", label=Sentiment.POSITIVE)
                answer = Sentiment.POSITIVE if number in right_posts else Sentiment.NEGATIVE
                lines.append(make_prediction(post, answer).model_dump_json())
            (output / f"{model}_test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return folder / "metrics.json"

    return add


@pytest.fixture
def collect(tmp_path):
    def frames(**options) -> dict[str, pd.DataFrame]:
        tables = collect_tables(tmp_path / "reports", tmp_path / "outputs", **options)
        return {name: table.frame for name, table in tables.items()}

    return frames


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[~frame["source"].isin(["published", COMPUTED])]


def test_nothing_on_disk_gives_the_paper_s_tables_whole(collect):
    frames = collect()
    assert tuple(frames) == TABLES
    assert all(measured(frame).empty for name, frame in frames.items())
    cells = published().groupby("table").size()
    for number in (3, 4, 6, 7):
        assert frames[f"table_{number}"].drop(columns=["method", "run", "source"]).notna().sum().sum() == cells[number]


def test_every_run_lands_in_its_tables(add_run, collect):
    add_run(
        "twitter2015",
        "arch4-tiny-full",
        references={"dist_1": 0.425, "dist_2": 0.729},
        expansion={"samples": 3179, "kept": 2000, "accuracy": 0.629, "weighted_f1": 0.6, "macro_f1": 0.5},
        dataset={"train": 3179, "dev": 1122, "test": 1037, "train_plus": 5179},
        costs=True,
    )
    add_run("mvsa_single", "arch2-full-full", scale="full", arch=2)
    add_run("mvsa_multiple", "arch2-full-full", scale="full", arch=2)
    frames = collect()

    coarse = measured(frames["table_3"])
    assert coarse["method"].tolist() == ["assistant", "student"]
    assert coarse["source"].tolist() == ["measured"] * 2
    assert coarse[["mvsa_single accuracy", "mvsa_multiple weighted_f1"]].to_numpy().tolist() == [[61.23, 58.0]] * 2

    fine = frames["table_4"]
    tiny = fine[fine["source"] == MEASURED_TINY]
    assert tiny["run"].tolist() == ["arch4-tiny-full"] * 2
    assert tiny["twitter2015 macro_f1"].tolist() == [45.0] * 2
    assert tiny["twitter2015 accuracy interval"].tolist() == ["58.0 to 64.0"] * 2
    assert tiny["twitter2017 accuracy"].isna().all()
    assert not any("sample" in column for column in fine.columns)
    assert "twitter2017 accuracy interval" not in fine.columns

    reasoning = frames["table_5"]
    row = reasoning[(reasoning["dataset"] == "twitter2015") & (reasoning["method"] == "student")].iloc[0]
    assert (row["dist_1"], row["reference_dist_1"], row["bleu"]) == (44.0, 42.5, 30.0)

    architectures = measured(frames["table_7"])
    assert architectures["method"].tolist() == [
        f"architecture {arch} ({role})" for arch in (2, 4) for role in ("assistant", "student")
    ]
    assert measured(frames["table_1"]).iloc[0]["train_plus"] == 5179
    expansion = measured(frames["table_8"]).iloc[0]
    assert (expansion["kept"], expansion["accuracy"]) == (2000, 62.9)

    costs = measured(frames["table_12"])
    assert costs["prompt"].tolist() == ["label", "reasoning"] * 2
    assert costs.iloc[0][["device", "latency_ms", "memory_gb"]].tolist() == ["Some CPU, 1 thread, float32", 66.3, 0.72]
    assert measured(frames["table_11"]).empty

    every = frames["table_scores"]
    sure = every[(every["dataset"] == "twitter2015") & (every["method"] == "student") & (every["metric"] == "macro_f1")]
    assert sure[["value", "low", "high"]].to_numpy().tolist() == [[45.0, 40.0, 50.0]]


def test_table_10_is_exact_without_weights(add_run, collect):
    add_run("sample", "arch4-tiny-full", costs=True)
    counts = collect()["table_10"].set_index(["source", "method"])
    for name in ("Qwen3-VL-8B", "Qwen3-VL-2B", "Qwen2.5-VL-7B", "Qwen2.5-VL-3B"):
        computed, printed = counts.loc[(COMPUTED, name)], counts.loc[("published", name)]
        assert computed["parameters"] == printed["parameters"]
        assert computed["trainable_parameters"] == printed["trainable_parameters"]
        assert computed["trainable_percent"] == pytest.approx(printed["trainable_percent"], abs=0.00006)
    assert counts.loc[(MEASURED_TINY, "tiny qwen2_5_vl"), "parameters"] == 1_832_960


def test_ablations_stand_beside_the_whole_method_and_in_no_table_of_it(add_run, collect, scores):
    add_run("sample", "arch4-tiny-full")
    add_run("sample", "arch4-tiny-no_image", variant="no_image")
    nothing = {"samples": 0, "kept": 0, "accuracy": None, "weighted_f1": None, "macro_f1": None}
    add_run("sample", "arch4-tiny-no_assistant", variant="no_assistant", assistant=None, expansion=nothing)
    add_run("sample", "arch1-tiny-full", arch=1)
    frames = collect()
    assert measured(frames["table_6"])["method"].tolist() == [
        "MulCoT-RD (assistant)",
        "MulCoT-RD (student)",
        "w/o Img (assistant)",
        "w/o Img (student)",
        "w/o Asst (student)",
    ]
    assert measured(frames["table_8"]).empty
    assert set(measured(frames["table_4"])["run"]) == {"arch1-tiny-full", "arch4-tiny-full"}


def test_other_models_of_a_run_and_its_teacher_get_rows(add_run, collect):
    zero_shot = {"accuracy": 0.4, "macro_f1": 0.3}
    for number, run in enumerate(("arch4-tiny-full", "arch3-tiny-full")):
        # The same answers of the same teacher, though each run draws intervals of its own.
        teacher = {"accuracy": 0.7, "macro_f1": 0.6, "intervals": {"accuracy": [0.6, 0.8 + number / 100]}}
        add_run("sample", run, teacher=teacher, zero_shot_student=zero_shot, student={})
    rows = measured(collect()["table_4"]).set_index("method")["sample accuracy"]
    assert rows.loc["teacher (zero-shot)"] == 70.0
    assert rows.loc["zero_shot_student"].tolist() == [40.0, 40.0]
    assert "student" not in rows.index


def test_a_teacher_that_nobody_asked_is_not_called_zero_shot(add_run, collect):
    # A file of texts doesn't say whether their writer knew the labels.
    about = {"dataset": "sample", "run": "r", "arch": 4, "scale": "tiny", "variant": "full", "seed": 42}
    add_run("sample", "r", teacher={"accuracy": 0.9}, run=about | {"teacher_provider": "import+offline"})
    assert "teacher (imported texts)" in set(collect()["table_4"]["method"])


def test_a_trial_on_a_few_posts_is_named_and_takes_nobodys_place(add_run, collect):
    about = {"dataset": "sample", "arch": 4, "scale": "full", "variant": "full", "teacher": "gpt-4o"}
    whole = about | {"run": "arch4-full-full", "seed": 42, "posts": "all"}
    trial = about | {"run": "arch4-full-full-seed43", "seed": 43, "posts": "some", "limit": 64}
    add_run("sample", whole["run"], run=whole, teacher={"accuracy": 0.65})
    add_run("sample", trial["run"], run=trial, teacher={"accuracy": 0.92})
    rows = measured(collect()["table_4"]).set_index("source")["sample accuracy"]
    assert rows["measured; gpt-4o"] == 65.0
    assert rows["measured; gpt-4o; first 64 posts a split"] == 92.0


def test_runs_of_other_parameters_have_no_mean_over_seeds(add_run, collect):
    about = {"dataset": "sample", "arch": 4, "scale": "full", "variant": "full"}
    for seed, training in ((42, "a"), (43, "b"), (44, "a")):
        name = "arch4-full-full" if seed == 42 else f"arch4-full-full-seed{seed}"
        add_run("sample", name, run=about | {"run": name, "seed": seed, "training": training})
    assert set(collect()["table_seeds"]["seeds"]) == {"42, 44"}


def test_runs_whose_training_data_were_made_otherwise_have_no_mean_over_seeds(add_run, collect):
    about = {"dataset": "sample", "arch": 4, "scale": "full", "variant": "full", "training": "a"}
    for seed, kind in ((42, "exact"), (43, "compact"), (44, "exact")):
        name = "arch4-full-full" if seed == 42 else f"arch4-full-full-seed{seed}"
        parameters = {"assistant": "a", "soft_labels": kind}
        add_run("sample", name, run=about | {"run": name, "seed": seed, "parameters": parameters})
    assert set(collect()["table_seeds"]["seeds"]) == {"42, 44"}
    # What an earlier version wrote does not say it, and is averaged as it was.
    name = "arch4-full-full-seed45"
    add_run("sample", name, run=about | {"run": name, "seed": 45})
    assert set(collect()["table_seeds"]["seeds"]) == {"42, 43, 44, 45"}


def test_runs_that_differ_in_their_seed_alone_get_a_mean(add_run, collect, scores):
    for seed, accuracy in ((42, 0.5), (43, 0.6), (44, 0.7)):
        name = "arch4-tiny-full" if seed == 42 else f"arch4-tiny-full-seed{seed}"
        add_run("sample", name, seed=seed, student={**scores, "accuracy": accuracy}, assistant={})
    add_run("sample", "mine", seed=45)
    frames = collect()
    mean = frames["table_4"].set_index("run").loc["arch4-tiny-full, mean of 3 seeds"]
    assert mean["sample accuracy"] == pytest.approx(60.0)
    assert mean["sample accuracy interval"] == "± 10.0"
    seeds = frames["table_seeds"].set_index("metric").loc["accuracy"]
    assert seeds["seeds"] == "42, 43, 44"
    assert (seeds["mean"], seeds["deviation"]) == pytest.approx((60.0, 10.0))


def test_models_are_compared_on_the_same_posts(add_run, collect):
    everything, some = range(20), range(10)
    add_run("sample", "arch4-tiny-full", right={"assistant": everything, "student": everything})
    add_run("sample", "arch4-tiny-no_image", variant="no_image", right={"assistant": some, "student": everything})
    add_run("sample", "arch3-tiny-no_image", variant="no_image", arch=3, right={"student": some})
    rows = collect()["table_comparisons"].set_index(["a", "b"])
    row = rows.loc[("arch4-tiny-full, assistant", "arch4-tiny-no_image, assistant")]
    assert (row["only a right"], row["only b right"]) == (10, 0)
    assert row["p"] == pytest.approx(2 / 2**10)
    assert (row["accuracy a"], row["accuracy b"], row["difference"]) == (100, 50, 50)
    low, high = map(float, row["interval"].split(" to "))
    assert low < 50 < high
    # Four tests: two pairs of runs' models, two of student and assistant, two of them as good as p = 0.002.
    assert len(rows) == 4
    assert row["p, Holm"] == pytest.approx(4 * 2 / 2**10)
    assert rows["p, Holm"].max() == 1
    assert not any("arch3" in name for pair in rows.index for name in pair)
    more = collect(compare_with="arch3-tiny-no_image")["table_comparisons"]
    assert more[["a", "b"]].map(lambda name: "arch3" in name).any(axis=1).sum() == 2


@pytest.mark.parametrize(
    ("whole", "part", "compared"),
    [
        ({"parameters": {"assistant": "a", "student": "s"}}, {"parameters": {"student": "s"}}, True),
        ({"parameters": {"assistant": "a", "student": "s"}}, {"parameters": {"student": "t"}}, False),
        ({"captions": "gpt-4o"}, {"captions": "offline-rules"}, False),
        # Earlier versions wrote neither.
        ({"captions": "gpt-4o", "parameters": {"student": "s"}}, {}, True),
    ],
)
def test_an_ablation_is_compared_with_what_differs_from_it_in_that_part_alone(add_run, collect, whole, part, compared):
    for seed in (42, 43):
        about = {"dataset": "sample", "arch": 4, "scale": "full", "seed": seed}
        for variant, own in (("full", whole), ("no_assistant", part)):
            name = f"arch4-full-{variant}" + ("" if seed == 42 else f"-seed{seed}")
            run = about | {"run": name, "variant": variant} | own
            add_run("sample", name, run=run, assistant=None, right={"student": range(seed - 30)})
    pairs = collect()["table_comparisons"]["a"].tolist()
    names = ["arch4-full-full, student", "arch4-full-full-seed43, student", "arch4-full-full, student, 2 seeds"]
    assert pairs == (names if compared else [])


def test_a_comparison_names_the_sources_of_both_sides_where_they_differ(add_run, collect):
    right = {"student": range(20)}
    add_run("sample", "large", scale="full", assistant={}, right=right)
    add_run("sample", "small", assistant={}, right=right)
    add_run("sample", "smaller", assistant={}, right=right)
    rows = collect(compare_with="small")["table_comparisons"].set_index(["a", "b"])["source"]
    assert rows.to_dict() == {
        ("small, student", "large, student"): f"a: {MEASURED_TINY}; b: measured",
        ("small, student", "smaller, student"): MEASURED_TINY,
    }


def test_differences_over_seeds(add_run, collect):
    for seed, right in ((42, 12), (43, 8)):
        mark = "" if seed == 42 else f"-seed{seed}"
        add_run("sample", f"arch4-tiny-full{mark}", seed=seed, assistant={}, right={"student": range(20)})
        add_run(
            "sample", f"arch4-tiny-no_text{mark}", seed=seed, variant="no_text", assistant={},
            right={"student": range(right)},
        )  # fmt: skip
    rows = collect()["table_comparisons"]
    assert len(rows) == 3
    pooled = rows.iloc[-1]
    assert pooled["a"] == "arch4-tiny-full, student, 2 seeds"
    assert pooled["b"] == "arch4-tiny-no_text, student, 2 seeds"
    assert pooled["difference"] == pytest.approx(50)
    assert float(pooled["interval"].split(" to ")[0]) > 20
    assert pd.isna(pooled["p"])


def test_other_posts_are_not_compared(add_run, collect, tmp_path, caplog):
    add_run("sample", "arch4-tiny-full", right={"student": range(20)})
    add_run("sample", "arch4-tiny-no_text", variant="no_text", right={"student": range(20)})
    file = tmp_path / "outputs" / "sample" / "arch4-tiny-no_text" / "student_test.jsonl"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    table = collect_tables(tmp_path / "reports", tmp_path / "outputs")["table_comparisons"]
    assert table.frame.empty
    pair = "arch4-tiny-full, student with arch4-tiny-no_text, student on sample (they answered different posts)"
    assert pair in caplog.text
    assert pair in table.note


def test_what_a_run_can_t_be_compared_with_is_named_and_an_unknown_run_refused(add_run, tmp_path):
    add_run("sample", "mine", right={"student": range(20), "assistant": range(9)})
    add_run("sample", "other", assistant=None)
    add_run("cafe", "third")
    folders = tmp_path / "reports", tmp_path / "outputs"
    table = collect_tables(*folders, compare_with="mine")["table_comparisons"]
    assert len(table.frame) == 1
    for said in (
        "the runs on cafe with mine (it has no metrics there)",
        "mine, student with other, student on sample (no predictions of other, student on disk",
        "mine, assistant with other, assistant on sample (other has no assistant)",
    ):
        assert said in table.note
    with pytest.raises(UserError, match='no run mien has metrics; did you mean "mine"'):
        collect_tables(*folders, compare_with="mien")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b'{"id": 1}\n', "student_test.jsonl: line 1 is no prediction"),
        (b"\xff\xfe{", "student_test.jsonl is broken UTF-16"),
        (b"\x1f\x8b\x08", "student_test.jsonl is compressed with gzip"),
        (b"caf\xe9\n", "student_test.jsonl: line 1 is not UTF-8"),
    ],
)
def test_broken_answers_of_one_run_end_no_other_comparison(add_run, collect, tmp_path, caplog, written, said):
    for run in ("arch4-tiny-full", "arch3-tiny-full"):
        add_run("sample", run, arch=int(run[4]), right={"student": range(20), "assistant": range(5)})
    (tmp_path / "outputs/sample/arch3-tiny-full/student_test.jsonl").write_bytes(written)
    assert collect()["table_comparisons"]["a"].tolist() == ["arch4-tiny-full, student"]
    assert said in caplog.text


def test_a_users_own_data_set_gets_columns_of_its_own(add_run, collect):
    add_run("my_posts", "arch4-tiny-full")
    assert collect()["table_4"].iloc[-1]["my_posts accuracy"] == 61.23


def test_what_is_missing_is_an_empty_cell(tmp_path, add_run):
    add_run("sample", "arch4-tiny-mine", assistant={}, student={"accuracy": 0.5, "macro_f1": 0.4, "bleu": None})
    tables = collect_tables(tmp_path / "reports", tmp_path / "outputs")
    assert tables["table_4"].frame.iloc[-1][["method", "sample accuracy"]].tolist() == ["student", 50.0]
    texts = [text.lower() for name, table in tables.items() for text in table_texts(table, name).values()]
    assert len(texts) == 3 * len(TABLES)
    for text in texts:
        assert "nan" not in text.replace("finance", "")
        assert "<na>" not in text
        assert "none" not in text
    (tmp_path / "reports" / "tables").mkdir()
    table_8 = tmp_path / "reports" / "tables" / "table_8.csv"
    table_8.write_text(table_texts(tables["table_8"], "table_8")["csv"])
    assert pd.read_csv(table_8)["samples"].tolist()[0] == 3608
    # The tables' own folder is no run of anything.
    assert collect_tables(tmp_path / "reports", tmp_path / "outputs").keys() == tables.keys()


def test_the_remark_about_diversity_stands_under_table_5(tmp_path):
    note = collect_tables(tmp_path, tmp_path)["table_5"].note
    assert "those of the reference texts" in note
    assert "49.8 and 80.2" in note


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("metrics.json", "{}", "metrics.json: run: Field required; run the evaluation pipeline"),
        ("metrics.json", '{"run": {"data', "metrics.json: the file: Invalid JSON"),
        ("efficiency.json", '{"student": ', "efficiency.json: the file: Invalid JSON"),
        ("quality.json", '{"student": ', "quality.json: the file: Invalid JSON"),
        (
            "quality.json",
            '{"student": {"quotes": "many"}}',
            "quality.json: student.quotes: Input should be a valid int",
        ),
        ("quality.json", '{"student": {"aspect_named": 61.2}}', "aspect_named is 61.2: metrics are kept as fractions"),
        ("efficiency.json", json.dumps({"student": {**MODEL_COST, "prompts": {}}}), "efficiency.json: student.prompts"),
    ],
)
def test_a_broken_file_is_named_and_costs_its_run_alone(add_run, collect, caplog, name, written, said):
    add_run("sample", "arch4-tiny-full")
    add_run("sample", "arch3-tiny-full", arch=3).with_name(name).write_text(written, encoding="utf-8")
    assert set(measured(collect()["table_4"])["run"]) == {"arch4-tiny-full"}
    assert said in caplog.text


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"student": {"accuracy": 61.23}}, "student: Value error, accuracy is 61.23: metrics are kept as fractions"),
        ({"student": {"accuracy": 61}}, "accuracy is 61: metrics are kept as fractions"),
        ({"student": {"accuracy": "high"}}, "accuracy is high: metrics are kept as fractions"),
        ({"student": {"accuracy": float("nan")}}, "accuracy is nan: metrics are kept as fractions"),
        ({"student": {"accuracy": 0.5, "intervals": {"accuracy": [58, 64]}}}, "student.intervals.accuracy.0"),
        ({"student": {"accuracy": 0.5, "intervals": {"accuracy": None}}}, "student.intervals.accuracy"),
        ({"teacher": {"accuracy": 61.23}}, "teacher: Value error, accuracy is 61.23"),
        ({"references": {"dist_1": 42.5}}, "references.dist_1"),
        ({"expansion": {"samples": 9, "kept": 5, "accuracy": 62.9, "weighted_f1": 0, "macro_f1": 0}}, "expansion.acc"),
    ],
)
def test_a_score_that_is_no_fraction_costs_its_run_alone(add_run, collect, caplog, parts, said):
    add_run("sample", "arch4-tiny-full")
    add_run("sample", "arch3-tiny-full", arch=3, **parts)
    assert set(measured(collect()["table_scores"])["run"]) == {"arch4-tiny-full"}
    assert "metrics.json: " in caplog.text
    assert said in caplog.text
    assert "run the evaluation pipeline" in caplog.text


def test_a_copied_run_is_not_counted_twice(tmp_path, add_run, collect, caplog):
    file = add_run("sample", "arch4-tiny-full")
    copy = tmp_path / "reports" / "sample" / "copy" / "metrics.json"
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    assert len(measured(collect()["table_4"])) == 2
    assert "metrics.json holds run arch4-tiny-full on sample: move it to the folder of that run" in caplog.text


def test_both_students_and_their_pairs_stand_in_the_tables(add_run, collect, scores):
    right = {"student": range(10), "student_preference": range(15)}
    file = add_run("sample", "arch4-tiny-preference", variant="preference", right=right, student_preference=scores)
    sampled = {
        "pairs": 7, "posts": 5, "margin": 1.25, "chosen_words": 40.0, "rejected_words": 41.0,
        "better": {"quotes_grounded": 0.5},
    }  # fmt: skip
    none = {"pairs": 0, "posts": 0}
    counts = {"posts": 9, "samples": 45, "complete": 40, "kinds": {"sampled": sampled, "assistant": none}, "config": {}}
    (file.parent / "preference.json").write_text(json.dumps(counts))
    add_run("sample", "arch4-tiny-full")
    tables = collect()
    assert {"student", "student_preference"} <= set(tables["table_scores"]["method"])
    pairs = tables["table_preference"]
    assert pairs["kind"].tolist() == ["sampled", "assistant"]
    assert pairs["pairs"].tolist() == [7, 0]
    assert pairs.loc[0, "quotes_grounded"] == 50
    assert set(pairs["run"]) == {"arch4-tiny-preference"}
    (compared,) = tables["table_comparisons"].to_dict("records")
    assert (compared["a"], compared["b"]) == (
        "arch4-tiny-preference, student_preference",
        "arch4-tiny-preference, student",
    )
    assert (compared["only a right"], compared["only b right"]) == (5, 0)
