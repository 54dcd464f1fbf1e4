"""Configuration: the paper's values, architectures that switch together, credentials in every environment."""

import pytest

from mulcot_rd.hooks import check_runtime_parameters
from mulcot_rd.models import BackboneParameters, parameter_counts
from mulcot_rd.parameters import InputParameters, RunParameters
from mulcot_rd.teacher import TeacherParameters
from mulcot_rd.training.parameters import AssistantTrainingParameters, StudentTrainingParameters
from tests.project.conftest import CONF
from tests.project.conftest import load as _load

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
    assert [role.adapter.dropout for role in roles] == [0.2, 0.05]
    for role in roles:
        assert (role.adapter.rank, role.adapter.alpha, role.adapter.fully_trained_modules) == (16, 32, [])
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
        assert (how.epochs, how.batch_size, how.accumulation, how.halve_after) == (20, 2, 20, 2)
        assert (how.learning_rate, how.minimum_learning_rate, how.warmup_steps) == (3e-4, 1e-6, 0)
    assert (assistant.weights.label, assistant.weights.reasoning) == (0.2, 0.8)
    assert student.weights.hard == student.weights.soft == assistant.weights
    assert (student.weights.distillation, student.weights.temperature) == (0.3, 2.0)
    paper = {
        "batch_size": 24,
        "max_new_tokens": 512,
        "max_label_tokens": 16,
        "max_retries": 3,
    }
    assert {name: parameters["generation"][name] for name in paper} == paper


def test_the_base_runs_anywhere():
    parameters = _load()["parameters"]
    assert parameters["run_settings"]["scale"] == "tiny"
    assert parameters["teacher"]["provider"] == "offline"
    assert all(BackboneParameters(**parameters[f"{role}_backbone"]).model is None for role in ("assistant", "student"))


def test_paths_are_below_data_set_and_run():
    catalog = _load(dataset="twitter2015", arch=1)["catalog"]
    assert catalog["metrics"]["filepath"] == "data/08_reporting/twitter2015/arch1-tiny-full/metrics.json"
    assert catalog["{role}_adapter"]["filepath"] == "data/06_models/twitter2015/arch1-tiny-full/{role}"
    other_seed = _load(seed=43)
    assert (
        other_seed["catalog"]["metrics"]["filepath"] == "data/08_reporting/sample/arch4-tiny-full-seed43/metrics.json"
    )
    assert other_seed["parameters"]["run_settings"]["name"] == "arch4-tiny-full-seed43"
    named = _load(run="mine", seed=43)["catalog"]
    assert named["metrics"]["filepath"] == "data/08_reporting/sample/mine/metrics.json"


@pytest.mark.parametrize("env", [None, "workstation"])
def test_the_users_credentials_are_read_in_every_environment(tmp_path, env):
    for name in ("base", "local", "workstation"):
        (tmp_path / name).mkdir()
    (tmp_path / "base" / "credentials.yml").write_text("openai: {}\n")
    (tmp_path / "local" / "credentials.yml").write_text("openai: {api_key: made-up}\n")
    assert _load(env, conf=tmp_path)["credentials"] == {"openai": {"api_key": "made-up"}}


def test_an_environments_globals_still_hold_after_names_were_checked():
    """Checking makes a second loader, and both share the process's resolvers."""
    loader = _load("workstation")
    check_runtime_parameters({"arch": 4}, CONF, "base")
    parameters = loader["parameters"]
    assert (parameters["scale"], parameters["dataset"]) == ("full", "twitter2015")
