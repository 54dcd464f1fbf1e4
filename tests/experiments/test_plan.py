"""Reading a plan: grids multiply, runs occur once, mistakes are named."""

import pytest

from mulcot_rd.cli import run
from mulcot_rd.errors import UserError
from mulcot_rd.experiments import PlanError, read_plan
from mulcot_rd.pipeline_registry import STAGES


def write(folder, text):
    path = folder / "plan.yml"
    path.write_text(text)
    return path


def test_lists_multiply_and_an_entry_overrides_the_plan(tmp_path):
    plan = write(
        tmp_path,
        "parameters: {dataset: sample, seed: 1}\n"
        "runs:\n"
        "  - parameters: {arch: [4, 6], variant: [full, no_image]}\n"
        "  - parameters: {arch: 4, seed: [2, 3]}\n"
        "    stages: [data_preparation]\n",
    )
    runs = read_plan(plan)
    assert [run.parameters for run in runs] == [
        {"dataset": "sample", "seed": 1, "arch": arch, "variant": variant}
        for arch in (4, 6)
        for variant in ("full", "no_image")
    ] + [{"dataset": "sample", "seed": seed, "arch": 4} for seed in (2, 3)]
    assert {run.stages for run in runs} == {tuple(STAGES), ("data_preparation",)}


def test_a_run_that_occurs_twice_is_done_once(tmp_path):
    plan = write(tmp_path, "runs:\n  - parameters: {arch: [4, 6]}\n  - parameters: {arch: [6, 4]}\n")
    assert [run.parameters["arch"] for run in read_plan(plan)] == [4, 6]


def test_values_are_spelled_as_the_command_line_reads_them(tmp_path):
    plan = write(tmp_path, "runs:\n  - parameters: {limit: null, dry_run: false, a.b: 1.0e-3, raw_dir: ../x}\n")
    assert read_plan(plan)[0].params_option == "limit=null,dry_run=false,a.b=0.001,raw_dir=../x"


def test_names_reach_the_command_line_as_they_are_written(tmp_path):
    path = write(
        tmp_path, "runs:\n  - parameters: {dataset: 0012, run: [010, 1e5, true, null], a.b: '1.50', seed: 7}\n"
    )
    runs = read_plan(path)
    assert [planned.parameters["run"] for planned in runs] == ["010", "1e5", "true", "null"]
    for planned in runs:
        given = run.make_context("run", ["--params", planned.params_option]).params["params"]
        assert given == {"dataset": "0012", "run": planned.parameters["run"], "a": {"b": "1.50"}, "seed": 7}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runs: []", "runs: list should have at least 1 item"),
        ("runs:\n  - parameters: {arch: []}", "runs.1.parameters.arch"),
        ("runs:\n  - parameters: {arch: 4}\n    stage: [evaluation]", "runs.1.stage: extra inputs"),
        ("runs:\n  - parameters: {arch: 4}\n    stages: [evaluate]", "there is no pipeline evaluate"),
        ("runs:\n  - parameters: {raw_dir: 'a,b'}", "comma"),
        ("runs: [", "no YAML"),
        ("", "the file: input should be"),
    ],
)
def test_mistakes_name_file_and_entry(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=said.replace(".", r"\.")) as error:
        read_plan(path)
    assert str(path) in str(error.value)


def test_a_missing_plan_is_named(tmp_path):
    with pytest.raises(PlanError, match=r"there is no plan .*gone\.yml"):
        read_plan(tmp_path / "gone.yml")


def test_a_plan_in_another_encoding_is_named_by_its_line(tmp_path):
    (tmp_path / "plan.yml").write_bytes(b"runs:\n  - parameters: {run: caf\xe9}\n")
    with pytest.raises(PlanError, match=r"plan\.yml: line 2 is not UTF-8"):
        read_plan(tmp_path / "plan.yml")
