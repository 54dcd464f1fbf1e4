"""Configuration: the paper's values, architectures that switch together, credentials in every environment."""

import re
import shutil
import sys
import tarfile
import traceback

import click
import pytest
import yaml
from pydantic import ValidationError

from mulcot_rd.checks import check_names, check_parameters
from mulcot_rd.cli import run
from mulcot_rd.distributed import ALONE, ClusterParameters, Group, Job, launch
from mulcot_rd.errors import UserError
from mulcot_rd.ingest.parameters import IngestParameters
from mulcot_rd.models import BackboneParameters, parameter_counts
from mulcot_rd.parameters import InputParameters, RunParameters
from mulcot_rd.pipeline_registry import ON_DEMAND, STAGES, stage
from mulcot_rd.renamed import RENAMED
from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.training.parameters import AssistantTrainingParameters, StudentTrainingParameters
from tests.project.conftest import CONF
from tests.project.conftest import load as _load

pytestmark = pytest.mark.slow

TABLE_2 = {
    1: ("gpt-4o-mini", "Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"),
    2: ("gpt-4o-mini", "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct"),
    3: ("Qwen/Qwen2.5-VL-72B-Instruct", "Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"),
    4: ("Qwen/Qwen2.5-VL-72B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct"),
}


@pytest.mark.parametrize("arch", TABLE_2)
def test_an_architecture_switches_teacher_assistant_and_student_together(arch):
    parameters = _load("workstation", arch=arch)["parameters"]
    teacher = TeacherParameters(**parameters["teacher"])
    roles = [BackboneParameters(**parameters[f"{role}_backbone"]) for role in ("assistant", "student")]
    assert (teacher.model, *(role.model for role in roles)) == TABLE_2[arch]
    assert [role.adapter.lora_dropout for role in roles] == [0.2, 0.05]
    for role in roles:
        assert (role.adapter.r, role.adapter.lora_alpha, role.adapter.modules_to_save) == (16, 32, [])
        assert role.dtype == "auto"
        assert len(role.revision) == 40
        parameter_counts(role.model)
    assert RunParameters(**parameters["run_settings"]).name == f"arch{arch}-full-full"


def test_flan_t5_is_trained_whole_on_captions_and_smolvlm_by_adapters():
    """Architectures beside Table 2: Appendix G, and models that a laptop can train."""
    for arch, models, whole in (
        (5, ("gpt-3.5-turbo", "google/flan-t5-large", "google/flan-t5-base"), True),
        (6, ("gpt-4o-mini", "HuggingFaceTB/SmolVLM-500M-Instruct", "HuggingFaceTB/SmolVLM-256M-Instruct"), False),
    ):
        parameters = _load("workstation", arch=arch)["parameters"]
        roles = [BackboneParameters(**parameters[f"{role}_backbone"]) for role in ("assistant", "student")]
        assert (TeacherParameters(**parameters["teacher"]).model, *(role.model for role in roles)) == models
        assert RunParameters(**parameters["run_settings"]).name == f"arch{arch}-full-full"
        for role in roles:
            total, trainable = parameter_counts(role.model)
            assert role.adapter.full == whole == (total == trainable)
            assert len(role.revision) == 40
        tiny = _load(arch=arch)["parameters"]
        for role in ("assistant", "student"):
            small = BackboneParameters(**tiny[f"{role}_backbone"])
            assert small.family == roles[0].family
            assert small.tiny is not None
            assert small.adapter.full == whole


def test_the_workstation_has_the_papers_hyper_parameters():
    parameters = _load("workstation")["parameters"]
    assistant = AssistantTrainingParameters(**parameters["assistant_training"])
    student = StudentTrainingParameters(**parameters["student_training"])
    assert InputParameters(**parameters["inputs"]).image_size == 280
    for trained in (assistant, student):
        how = trained.optimisation
        assert (how.epochs, how.batch_size, how.gradient_accumulation_steps, how.lr_patience) == (20, 2, 20, 2)
        assert (how.learning_rate, how.min_lr, how.warmup_steps) == (3e-4, 1e-6, 0)
    assert (assistant.weights.label, assistant.weights.reasoning) == (0.2, 0.8)
    assert student.weights.hard == student.weights.soft == assistant.weights
    assert (student.weights.kd_ratio, student.weights.temperature) == (0.3, 2.0)
    paper = {
        "batch_size": 24,
        "max_new_tokens": 512,
        "max_label_tokens": 16,
        "max_retries": 3,
    }
    assert {name: parameters["generation"][name] for name in paper} == paper


def test_the_cluster_has_the_workstations_models_and_runs_the_sample_on_one_machine_too():
    """Null starts Ray here; a small model's workers have one processor each, as everywhere."""
    full, station = (_load(env)["parameters"] for env in ("cluster", "workstation"))
    different = {"engine", "cluster", "run_settings", "assistant", "student", "prediction"}
    assert {name for name in full if full[name] != station[name]} == different
    assert ClusterParameters(**station["cluster"]) == ClusterParameters()
    assert ClusterParameters(**full["cluster"]) == ClusterParameters(engine="ray")
    tiny = _load("cluster", scale="tiny", dataset="sample", cluster={"workers": 2})
    check_parameters(tiny)
    parameters = tiny["parameters"]
    assert ClusterParameters(**parameters["cluster"]) == ClusterParameters(engine="ray", workers=2, cpus_per_worker=1)
    assert parameters["assistant"]["cluster"] == parameters["student"]["cluster"] == parameters["cluster"]
    # A student in use is one of full size, of which not each processor can have its own.
    assert ClusterParameters(**parameters["prediction"]["cluster"]) == ClusterParameters(engine="ray", workers=2)
    settings = RunParameters(**parameters["run_settings"])
    assert (settings.engine, settings.name, settings.data_root) == ("ray", "arch4-tiny-full", "data")
    with pytest.raises(ValidationError, match=r"worker\n  Extra inputs"):
        ClusterParameters(**parameters["cluster"] | {"worker": 2})


class _Job(Job):
    def run(self, group: Group) -> None:
        assert group == ALONE


def test_without_ray_its_engine_names_the_cure(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    # Another test may have imported it already.
    monkeypatch.delitem(sys.modules, "mulcot_rd.distributed.on_ray", raising=False)
    monkeypatch.delattr("mulcot_rd.distributed.on_ray", raising=False)
    launch(_Job(), ClusterParameters(), tmp_path / "job", most=1)
    with pytest.raises(UserError, match=r"^ray is not installed: pip install 'mulcot-rd\[ray\]'$"):
        launch(_Job(), ClusterParameters(engine="ray"), tmp_path / "job", most=1)


def test_the_base_runs_anywhere():
    parameters = _load()["parameters"]
    assert parameters["run_settings"]["scale"] == "tiny"
    assert parameters["teacher"]["provider"] == "offline"
    assert all(BackboneParameters(**parameters[f"{role}_backbone"]).model is None for role in ("assistant", "student"))


def test_paths_are_below_data_set_and_run():
    catalog = _load(dataset="twitter2015", arch=1)["catalog"]
    assert catalog["metrics"]["filepath"] == "data/08_reporting/twitter2015/arch1-tiny-full/metrics.json"
    assert catalog["student_adapter"]["filepath"] == "data/06_models/twitter2015/arch1-tiny-full/student"
    other_seed = _load(seed=43)
    assert (
        other_seed["catalog"]["metrics"]["filepath"] == "data/08_reporting/sample/arch4-tiny-full-seed43/metrics.json"
    )
    assert other_seed["parameters"]["run_settings"]["name"] == "arch4-tiny-full-seed43"
    named = _load(run="mine", seed=43)["catalog"]
    assert named["metrics"]["filepath"] == "data/08_reporting/sample/mine/metrics.json"
    moved = _load(data_root="/mnt/share", run="mine")["catalog"]
    assert moved["metrics"]["filepath"] == "/mnt/share/08_reporting/sample/mine/metrics.json"
    with pytest.raises(UserError, match="s3://bucket: workspaces, ledgers and soft labels must be in a folder"):
        _load(data_root="s3://bucket")["catalog"]
    azure = _load(results_root="abfs://container/mulcot")["catalog"]
    assert azure["posts"]["filepath"] == "abfs://container/mulcot/03_primary/sample/posts.parquet"
    # What is worked with, and found beside the models, stays in the workspace.
    assert {azure[name]["filepath"].partition("/")[0] for name in ("run_lock", "temperatures", "soft_labels")} == {
        "data"
    }
    with pytest.raises(UserError, match=r"results_root=az://container/x: .* Azure's is abfs://CONTAINER/PATH"):
        _load(results_root="az://container/x")["catalog"]
    assert all("data/0" not in str(entry.get("filepath")) for entry in moved.values())


def test_every_dataset_of_the_pipelines_that_others_or_users_read_has_an_entry():
    catalog = _load()["catalog"]
    stages = [stage(name) for name in (*STAGES, *ON_DEMAND)]
    used = {name for each in stages for name in each.datasets() if not name.startswith("param")}
    within = {
        "raw_posts",
        "assistant_evaluated",
        "student_evaluated",
        "student_preference_evaluated",
        "judged_samples",
        "answers_shown",
        "origin_shown",
    }
    assert used - within == set(catalog) - {"run_lock"}
    assert not any("{" in name for name in catalog)


@pytest.mark.parametrize("env", [None, "workstation"])
def test_the_users_credentials_are_read_in_every_environment(tmp_path, env):
    for name in ("base", "local", "workstation"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "credentials.yml").write_text("openai: {}\n")
    (tmp_path / "local" / "credentials.yml").write_text("openai: {api_key: made-up}\n")
    assert _load(env, conf=tmp_path)["credentials"] == {"openai": {"api_key": "made-up"}}
    (tmp_path / "workstation" / "credentials.yml").write_text("openai: {api_key: the-workstations}\n")
    own = "the-workstations" if env else "made-up"
    assert _load(env, conf=tmp_path)["credentials"] == {"openai": {"api_key": own}}


FLAT = {"arch": 1, "scale": "full", "seed": 7, "dataset": "twitter2017", "limit": 5}


def _conf(tmp_path, **files):
    """A copy of the base, and files of other environments."""
    shutil.copytree(CONF / "base", tmp_path / "conf" / "base")
    for name, text in files.items():
        path = tmp_path / "conf" / name.replace("__", "/")
        path = path.with_name(f"{path.name}.yml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path / "conf"


@pytest.mark.parametrize("place", ["base", "local", "mine", "globals", "params"])
def test_a_flat_parameter_holds_everywhere_wherever_it_is_set(tmp_path, place):
    text = yaml.safe_dump(FLAT)
    loader = {
        "base": lambda: _load(conf=_conf(tmp_path)),
        "local": lambda: _load(conf=_conf(tmp_path, local__parameters=text)),
        "mine": lambda: _load("mine", conf=_conf(tmp_path, mine__parameters=text, local__parameters="arch: 6")),
        "globals": lambda: _load(conf=_conf(tmp_path, local__globals=text)),
        "params": lambda: _load(conf=_conf(tmp_path), **FLAT),
    }[place]()
    if place == "base":
        base = tmp_path / "conf" / "base" / "parameters.yml"
        lines = base.read_text().splitlines()
        changed = [next((f"{n}: {v}" for n, v in FLAT.items() if line.startswith(f"{n}:")), line) for line in lines]
        base.write_text("\n".join(changed))
    parameters, catalog = loader["parameters"], loader["catalog"]
    assert {name: parameters["run_settings"][name] for name in FLAT} == FLAT
    assert parameters["assistant_backbone"]["model"] == "Qwen/Qwen3-VL-8B-Instruct"
    assert parameters["teacher"]["model"] == "gpt-4o-mini"
    assert parameters["assistant_training"]["optimisation"]["batch_size"] == 2
    path = "data/08_reporting/twitter2017/arch1-full-full-seed7/metrics.json"
    assert catalog["metrics"]["filepath"] == path


def test_the_command_line_is_above_the_environment_and_siblings_stay(tmp_path):
    conf = _conf(
        tmp_path,
        mine__parameters="arch: 1\nscale: full\nteacher: {provider: openai, max_retries: 5}\n"
        "student_training: {optimisation: {epochs: 3, batch_size: 1}}\n",
        mine__catalog="_report: elsewhere/${_run}",
    )
    given = {"arch": 2, "teacher": {"max_retries": 1}, "student_training": {"optimisation": {"epochs": 4}}}
    loader = _load("mine", conf=conf, **given)
    parameters = loader["parameters"]
    assert parameters["run_settings"]["name"] == "arch2-full-full"
    assert parameters["student_backbone"]["model"] == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert (parameters["teacher"]["provider"], parameters["teacher"]["max_retries"]) == ("openai", 1)
    student, assistant = (parameters[f"{role}_training"]["optimisation"] for role in ("student", "assistant"))
    assert (student["epochs"], student["batch_size"], student["gradient_accumulation_steps"]) == (4, 1, 20)
    assert (assistant["epochs"], assistant["batch_size"]) == (20, 2)
    assert loader["catalog"]["metrics"]["filepath"] == "elsewhere/arch2-full-full/metrics.json"


def test_what_a_group_refers_to_is_set_before_what_is_set_in_the_group():
    """In whatever order they are given, and for its other readers the shared group stays as it is."""
    given = {"assistant_training": {"optimisation": {"epochs": 1}}, "tiny_optimisation": {"batch_size": 3}}
    parameters = _load(**given)["parameters"]
    assert (parameters["assistant_training"]["optimisation"]["epochs"]) == 1
    assert (parameters["assistant_training"]["optimisation"]["batch_size"]) == 3
    assert (parameters["tiny_optimisation"]["epochs"]) == 10
    assert (parameters["student_training"]["optimisation"]["batch_size"]) == 3
    # A reference may lead to a reference.
    role, shared = {"student": {"generation": {"max_retries": 1}}}, {"generation": {"max_new_tokens": 128}}
    for given in ({**role, **shared}, {**shared, **role}):
        parameters = _load(**given)["parameters"]
        assert parameters["student"]["generation"]["max_retries"] == 1
        assert parameters["student"]["generation"]["max_new_tokens"] == 128
        assert parameters["assistant"]["generation"]["max_new_tokens"] == 128


def test_no_other_run_is_the_run_itself():
    assert _load(student_run=None)["catalog"]["student_adapter"]["filepath"].endswith("/sample/arch4-tiny-full/student")


def _on_the_command_line(*arguments):
    return run.make_context("run", list(arguments)).params["params"]


@pytest.mark.parametrize(
    "name", ["0012", "010", "1e5", "true", "null", "1_000", "12:30", "0x1f", "no", "1.10", "2026-01-01"]
)
def test_names_stay_as_they_are_typed(tmp_path, name):
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(f"run:\n  params:\n    dataset: {name}\n    run: {name}\n    seed: 7\n")
    typed = _on_the_command_line("--params", f"dataset={name},run={name},seed=7")
    assert typed == _on_the_command_line("--config", str(recipe)) == {"dataset": name, "run": name, "seed": 7}
    of_environment = _load(conf=_conf(tmp_path, local__parameters=f"dataset: {name}\nrun: {name}\nseed: 7\n"))
    for loader in (_load(**typed), of_environment):
        assert loader["catalog"]["metrics"]["filepath"] == f"data/08_reporting/{name}/{name}/metrics.json"
        settings = loader["parameters"]["run_settings"]
        assert (settings["dataset"], settings["name"], settings["seed"]) == (name, name, 7)


@pytest.mark.parametrize("name", ["2015", "1e10", "1.10", "0012"])
@pytest.mark.parametrize("key", ["ingest.folder", "student.model", "student.revision", "teacher.model"])
def test_text_that_looks_like_a_number_stays_text_and_null_stays_null(tmp_path, key, name):
    group, _, one = key.partition(".")
    recipe = tmp_path / "recipe.yml"
    for typed, read in ((name, name), ("null", None)):
        recipe.write_text(f"run:\n  params:\n    {group}:\n      {one}: {typed}\n")
        given = _on_the_command_line("--params", f"{key}={typed}")
        assert given == _on_the_command_line("--config", str(recipe)) == {group: {one: read}}
        of_environment = _load(conf=_conf(tmp_path / typed, local__parameters=f"{group}:\n  {one}: {typed}\n"))
        for loader in (_load(**given), of_environment):
            assert loader["parameters"][group][one] == read


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"run:\n  params: caf\xe9=1\n", "recipe.yml: line 2 is not UTF-8 (byte 0xe9): save it as UTF-8"),
        (b"\x1f\x8b\x08", "recipe.yml is compressed with gzip: unpack it"),
        (b"run:\n  env: \x01\n", "recipe.yml, line 2: this is no text in UTF-8"),
        (b"run:\n\tenv: x\n", "recipe.yml, line 2, column 1: this is no YAML"),
        (b"? [a]\n: 1\n", "recipe.yml, line 1, column 3: this is no YAML (found unhashable key)"),
        (b"- run\n", "recipe.yml: it must be a mapping"),
        (b"", "recipe.yml: it must have a mapping `run:`"),
        (b"run: 3\n", "recipe.yml: it must have a mapping `run:`"),
        (b"run:\n  5: 5\n", "recipe.yml: kedro run has no option 5"),
        (b"run:\n  tags: {a: b}\n", "recipe.yml: tags must be a value, or a list of values"),
        (b"run:\n  params: [a, b]\n", "['a', 'b'] must be a mapping, or text such as NAME=VALUE"),
    ],
)
def test_a_recipe_that_cant_be_read_is_named_with_its_line(tmp_path, written, said):
    recipe = tmp_path / "recipe.yml"
    recipe.write_bytes(written)
    with pytest.raises(click.ClickException) as refused:
        _on_the_command_line("--config", str(recipe))
    assert said in refused.value.format_message()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_recipes_of_other_editors_are_read(tmp_path, encoding):
    recipe = tmp_path / "recipe.yml"
    recipe.write_text("run:\n  params: run=a,seed=7\n", encoding=encoding)
    assert _on_the_command_line("--config", str(recipe)) == {"run": "a", "seed": 7}


def test_other_values_are_read_as_yaml():
    given = _on_the_command_line(
        "--params", "limit=null,a.x=1e-3,a.y=true,a.z=[p, 2],b=0012,c='7',d=x: y #z,raw_dir=/data/[2]/{a} b#c=%"
    )
    assert given == {
        "limit": None,
        "a": {"x": 1e-3, "y": True, "z": ["p", 2]},
        "b": "0012",
        "c": "7",
        "d": "x: y #z",
        "raw_dir": "/data/[2]/{a} b#c=%",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        *({"name": name} for name in ("a/b", "..", ".a", "a.", "a ", " a", "", "a\n", "ä", "teacher_ledger.jsonl")),
        *({"dataset": name} for name in ("a/b", "tables", "Figures", "a.")),
        {"seed": "042"},
        {"seed": 1.5},
        {"limit": True},
        {"limit": "3"},
    ],
)
def test_names_that_make_no_folder_of_their_own_and_other_types_are_refused(wrong):
    with pytest.raises(ValidationError):
        RunParameters(**_load()["parameters"]["run_settings"] | wrong)


def test_the_home_folder_is_meant_by_a_tilde_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    parameters = _load()["parameters"]
    assert BackboneParameters(**parameters["student_backbone"] | {"model": "~/smol"}).model == "/home/ada/smol"
    assert BackboneParameters(**parameters["student_backbone"] | {"model": "./smol"}).model == "./smol"
    assert RunParameters(**parameters["run_settings"] | {"raw_dir": "~/raw"}).raw_dir == "/home/ada/raw"
    assert IngestParameters(split_files="~/splits").split_files == "/home/ada/splits"
    assert TeacherParameters(provider="import", import_path="~/i.jsonl").import_path == "/home/ada/i.jsonl"


def test_names_that_differ_in_case_alone_are_refused(tmp_path):
    (tmp_path / "06_models" / "cafe" / "Mine").mkdir(parents=True)
    check_names(tmp_path, "cafe", "Mine")
    check_names(tmp_path, "cafe", "mine2")
    for dataset, name in (("cafe", "mine"), ("Cafe", "Mine")):
        with pytest.raises(UserError, match="differ in case alone"):
            check_names(tmp_path, dataset, name)


@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("", {"arhc": 4}, "arch"),
        ("sclae: full", {}, "scale"),
        ("arch: 9", {}, "arch=9 does not exist; there are: 1, 2"),
        ("", {"variant": "no_imag"}, "no_image"),
        ("", {"teacher": {"budgt": 1}}, '"teacher.budgt"; did you mean "budget_usd"'),
        ("", {"assistant_training": {"optimisation": {"epoch": 1}}}, "epochs"),
        ("", {"assistant_training": {"optimization": {"epochs": 1}}}, "optimisation"),
        ("", {"cluster": {"worker": 2}}, '"cluster.worker"; did you mean "workers"'),
        ("", {"teacher": 5}, "teacher is a group"),
        ("", {"student_training": {"optimisation": 5}}, "is a group"),
        # Nothing reads it: tiny models have no such checkpoint.
        ("", {"backbones": {"full": {"qwen2_5_vl_7b": {"modle": "x"}}}}, 'did you mean "model"'),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(tmp_path, text, given, said):
    loader = _load(conf=_conf(tmp_path, local__parameters=text), **given)
    with pytest.raises(UserError, match=re.escape(said)):
        check_parameters(loader)


@pytest.mark.parametrize(("earlier", "now"), RENAMED.items())
def test_an_earlier_name_is_refused_with_the_name_now(tmp_path, earlier, now):
    path = r"student_training\.optimisation"
    said = rf"{path}\.{earlier} has another name now: write {path}\.{now}$"
    group = f"student_training: {{optimisation: {{{earlier}: 1}}}}"
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(f"run: {{params: {{{group}}}}}")
    for loader in (
        _load(**_on_the_command_line("--params", f"student_training.optimisation.{earlier}=1")),
        _load(**_on_the_command_line("--config", str(recipe))),
        _load(conf=_conf(tmp_path / "local", local__parameters=group)),
        _load("mine", conf=_conf(tmp_path / "mine", mine__parameters=group)),
        _load(conf=_conf(tmp_path / "globals", local__globals=group)),
        _load(conf=_conf(tmp_path / "base", base__parameters_z=group)),
        _load(
            conf=_conf(tmp_path / "reference", local__parameters=f"limit: ${{student_training.optimisation.{earlier}}}")
        ),
    ):
        with pytest.raises(UserError, match=said):
            check_parameters(loader)


def test_an_earlier_name_of_a_group_is_refused_and_a_variant_may_be_called_like_one(tmp_path):
    with pytest.raises(UserError, match=r"write variants\.distillation\.input_view\.image$"):
        check_parameters(_load(variants={"distillation": {"presentation": {"image": False}}}))
    check_parameters(_load(conf=_conf(tmp_path, local__parameters="variants: {distillation: '${variants.full}'}")))


def test_names_that_only_a_user_knows_are_taken(tmp_path):
    """An architecture of their own, a parameter that no file lists, and a helper of their own."""
    mine = {"teacher": "gpt-4o", "assistant": "qwen3_vl_8b", "student": "qwen2_5_vl_3b"}
    conf = _conf(tmp_path, local__parameters=f"_mine: {mine}\narchitectures: {{'9': '${{_mine}}'}}")
    loader = _load(conf=conf, arch=9, student_training={"optimisation": {"weight_decay": 0.1}})
    check_parameters(loader)
    assert loader["parameters"]["teacher"]["model"] == "gpt-4o"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "scales: {tiny: {student_trainin: {optimisation: {epochs: 1}}}}",
            r"scales\.tiny\.student_trainin.*student_training",
        ),
        ("architectures: {4: {max_new_token: 99}}", r"architectures\.4\.max_new_token.*max_new_tokens"),
        ("architectures: {9: {teacher: gpt-4o, asistant: x}}", r"architectures\.9\.asistant.*assistant"),
        ("run_settings: {seed: 7}", r"run_settings\.seed follows from other parameters: give seed"),
    ],
)
def test_a_name_that_nothing_reads_is_refused_in_a_file_too(tmp_path, given, said):
    with pytest.raises(UserError, match=said):
        check_parameters(_load(conf=_conf(tmp_path, local__parameters=given)))


def test_one_served_model_is_not_two_trained_ones():
    generation = {"backend": "served", "served": {"base_url": "http://localhost:8000/v1", "model": "student"}}
    with pytest.raises(UserError, match=r"model student would answer as assistant and as student.*student\.generation"):
        check_parameters(_load(generation=generation))
    for given in ({"student": {"generation": generation}}, {"assistant": {"generation": generation}}):
        check_parameters(_load(**given))
    for variant in ("zero_shot", "no_assistant"):
        check_parameters(_load(variant=variant, generation=generation))
    other = {"backend": "served", "served": {"base_url": "http://localhost:8001/v1", "model": "assistant"}}
    check_parameters(_load(student={"generation": generation}, assistant={"generation": other}))


def test_an_environment_that_is_missing_is_named_and_the_users_own_may_be(tmp_path):
    conf = _conf(tmp_path, mine__parameters="")
    assert not (conf / "local").exists()
    assert _load(conf=conf)["parameters"]["arch"] == 4
    assert _load(conf=conf)["credentials"] == {"openai": {}, "results": {}}
    with pytest.raises(UserError, match=r"no environment mien .*did you mean \"mine\""):
        _load("mien", conf=conf)["parameters"]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("local__parameters", "arch: 4\nseed: [1", "parameters.yml, line 2"),
        ("local__catalog", "posts:\n\ttype: x", "catalog.yml, line 2"),
        ("local__globals", "arch: 4\n arch: 5", "globals.yml, line 2"),
        ("local__parameters", "arch: 4\narch: 5", "parameters.yml, line 2, column 1: .*twice"),
        ("local__parameters", "- arch", "must be a mapping"),
        ("local__parameters", "seed: '", "parameters.yml, line 1"),
    ],
)
def test_what_is_no_yaml_is_named_by_file_and_line(tmp_path, file, text, said):
    with pytest.raises(UserError, match=said):
        loader = _load(conf=_conf(tmp_path, **{file: text}))
        for key in ("globals", "parameters", "catalog"):
            loader[key]


def test_configuration_in_another_encoding_is_named_by_file_and_line(tmp_path):
    conf = _conf(tmp_path, local__parameters="")
    (conf / "local/parameters.yml").write_bytes(b"seed: 7\nrun: caf\xe9\n")
    with pytest.raises(UserError, match=r"parameters\.yml, line 2: .* save it as a text file in UTF-8"):
        _load(conf=conf)["parameters"]


def test_a_name_that_is_a_number_is_unknown_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match='there is no parameter "1"'):
        check_parameters(_load(conf=_conf(tmp_path, local__parameters="1: 2\n")))
    architectures = _load(conf=_conf(tmp_path / "8", local__parameters="architectures: {8: {x: 1}}"))["parameters"]
    assert architectures["architectures"]["8"] == {"x": 1}
    with pytest.raises(UserError, match=r'there is no parameter "teacher\.1"'):
        check_parameters(_load(teacher={1: 2}))


@pytest.mark.parametrize(
    "text", ["openai:\n\tapi_key: SECRET", "openai: *SECRET", "!SECRET x: y", "openai: SECRET", "SECRET"]
)
def test_credentials_that_cant_be_read_are_not_shown(tmp_path, text):
    with pytest.raises(UserError, match=r"credentials\.yml") as error:
        _load("mine", conf=_conf(tmp_path, local__credentials=text, mine__parameters=""))["credentials"]
    assert "SECRET" not in "".join(traceback.format_exception(error.value)).replace(f"local__credentials={text!r}", "")


def test_two_files_of_one_environment_set_nothing_twice(tmp_path):
    conf = _conf(
        tmp_path, local__parameters="teacher: {provider: openai}", local__parameters_mine="teacher: {mode: batch}"
    )
    assert _load(conf=conf)["parameters"]["teacher"]["mode"] == "batch"
    (conf / "local" / "parameters_mine.yml").write_text("teacher: {provider: offline}")
    with pytest.raises(UserError, match=r"parameters\.yml and .*parameters_mine\.yml both set teacher\.provider"):
        _load(conf=conf)["parameters"]


@pytest.mark.parametrize("name", ["a [2] b", "{a}", "#1 100%", "conf.tar.gz"])
def test_the_configuration_is_found_in_any_folder_and_packed(tmp_path, monkeypatch, name):
    conf = _conf(tmp_path, local__parameters="seed: 7", local__credentials="openai: {api_key: '${oc.env:MADE_UP_KEY}'}")
    place = tmp_path / name
    if name.endswith("gz"):
        with tarfile.open(place, "w:gz") as packed:
            packed.add(conf, "conf")
    else:
        place = shutil.move(conf, place / "conf")
    monkeypatch.setenv("MADE_UP_KEY", "made-up")
    loader = _load(conf=place)
    assert loader["parameters"]["run_settings"]["name"] == "arch4-tiny-full-seed7"
    assert loader["credentials"] == {"openai": {"api_key": "made-up"}, "results": {}}


def test_references_of_kedro_still_work_in_a_users_files(tmp_path):
    conf = _conf(
        tmp_path,
        local__globals="bucket: s3://mine",
        local__catalog="extra: {type: x, filepath: '${globals:bucket}/${runtime_params:part,none}/${_limit}'}",
    )
    first, second = _load(conf=conf, limit=3), _load()
    second["parameters"]
    assert first["catalog"]["extra"]["filepath"] == "s3://mine/none/3"
