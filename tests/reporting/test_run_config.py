"""config.yml: the parameters of a run, as each of its results was made with."""

import pytest
import yaml
from kedro.validation.parameter_validator import ParameterValidator
from tests.project.conftest import load

from mulcot_rd.credentials import recorded
from mulcot_rd.hooks import default_parameters
from mulcot_rd.pipeline_registry import STAGES, stage
from mulcot_rd.pipelines.evaluation.nodes import record_config
from mulcot_rd.pipelines.evaluation.parameter_hashes import shared_parameters, training_parameters
from mulcot_rd.reporting.run_config import changed_parameters, parameters_note, run_config
from mulcot_rd.reporting.runs import ABLATIONS


def at_hand(**given):
    """The parameters of a command, validated as Kedro does."""
    return ParameterValidator({name: stage(name) for name in STAGES}).validate_raw_params(load(**given)["parameters"])


def recorded_by(evaluating, training):
    """What an evaluation records of a run whose results were made with other parameters."""
    made = {
        name: {"config": recorded(training[name], exclude={"generation"})}
        for name in ("teacher", "assistant", "student")
    }
    assistant = training["assistant"]
    expansion = {"config": {"generation": recorded(assistant.generation), "seed": assistant.seed}}
    return record_config(
        made["teacher"], made["assistant"], expansion, made["student"], evaluating, evaluating["run_settings"]
    )


def test_a_later_stage_with_other_parameters_does_not_change_what_trained_the_model():
    made = at_hand(student_training={"optimisation": {"epochs": 3}}, teacher={"max_tokens": 99})
    now = at_hand(generation={"max_retries": 1}, student_training={"optimisation": {"epochs": 7}})
    config = recorded_by(now, made)
    assert config["student"]["training"]["optimisation"]["epochs"] == 3
    assert config["teacher"]["max_tokens"] == 99
    assert config["expansion"]["generation"]["max_retries"] == 3
    assert config["evaluation"]["student"]["generation"]["max_retries"] == 1
    # Values that no file sets are there as well.
    assert config["student"]["training"]["optimisation"]["weight_decay"] == 0.01


def test_the_report_names_what_differs_from_the_defaults_and_nothing_else():
    usual = run_config(at_hand()["run_settings"], default_parameters(load()), {})
    assert changed_parameters(recorded_by(at_hand(), at_hand()), usual) == []
    assert "They are the defaults." in parameters_note(recorded_by(at_hand(), at_hand()), usual)
    changed = at_hand(student_training={"optimisation": {"epochs": 3}}, limit=5)
    assert changed_parameters(recorded_by(at_hand(), changed), usual) == [
        "student.training.optimisation.epochs: 8 -> 3"
    ]
    assert changed_parameters(recorded_by(changed, changed), usual)[0] == "run.limit: None -> 5"
    note = parameters_note(recorded_by(at_hand(), changed), usual)
    assert "config.yml" in note
    assert "student.training.optimisation.epochs: 8 -> 3." in note
    assert "No config.yml" in parameters_note({}, usual)


def test_defaults_are_those_of_the_chosen_architecture_scale_and_variant():
    given = {"arch": 1, "scale": "full", "variant": "no_cot", "seed": 43}
    usual = run_config(at_hand(**given)["run_settings"], default_parameters(load(**given)), {})
    assert changed_parameters(recorded_by(at_hand(**given), at_hand(**given)), usual) == []
    own = {"mine": load()["parameters"]["variants"]["no_cot"]}
    config = recorded_by(at_hand(variant="mine", variants=own), at_hand(variant="mine", variants=own))
    against = run_config(at_hand()["run_settings"], default_parameters(load(variant="mine", variants=own)), {})
    assert "student.method.tasks: ['label', 'reasoning'] -> ['label']" in changed_parameters(config, against)


def test_no_password_is_written_down():
    url = "https://me:hunter2@server/v1"
    given = {
        "teacher": {"provider": "openai", "base_url": url},
        "judge": {"posts": 1},
        "generation": {"backend": "served", "served": {"base_url": url, "model": "m"}},
    }
    text = yaml.safe_dump(recorded_by(at_hand(**given), at_hand(**given)))
    assert "hunter2" not in text
    assert text.count("https://server/v1") == 5


def test_a_model_of_an_earlier_version_shows_what_its_weights_depend_on():
    made_from = {"training": {"optimisation": {"epochs": 2}}, "seed": 1, "training_rows": "a hash"}
    adapter = {"made_from": made_from, "backbone": {"model": None}, "training_rows": 9}
    config = record_config({"models": {"m": 1}}, adapter, {}, adapter, at_hand(), at_hand()["run_settings"])
    assert config["student"] == {
        "training_rows": 9, "backbone": {"model": None}, "training": {"optimisation": {"epochs": 2}}, "seed": 1
    }  # fmt: skip
    assert config["teacher"] == {"models": {"m": 1}}


def hashes(seed=42, **given):
    """What metrics.json says of the parameters of a run; counts and fingerprints of its results are the seed's own."""
    now = at_hand(seed=seed, **given)
    assistant, student, preference, method = (
        now["assistant"], now["student"], now["preference"], now["student"].method
    )  # fmt: skip

    def result(config, made=True):
        counts = {"training_rows": seed, "best_epoch": seed} if made else {}
        return {"config": config, "fingerprint": f"of seed {seed}", "trained": made, **counts}

    def model(parameters, made, soft_labels=None):
        return result(recorded(parameters, exclude={"generation"}) | {"soft_labels": soft_labels}, made)

    soft_labels = now["soft_labels"].result_settings() if method.trains_assistant else None
    expansion = result({"generation": recorded(assistant.generation), "seed": seed}) if method.expands else {"kept": 0}
    optimised = student.model_copy(update={"training": preference.training})
    config = record_config(
        {"models": {"m": seed}}, model(assistant, method.trains_assistant), expansion,
        model(student, method.trained, soft_labels), now, now["run_settings"],
        result(recorded(preference.pairs) | {"seed": seed}), model(optimised, method.preference),
    )  # fmt: skip
    return training_parameters(config), shared_parameters(config)


VARIANTS = load()["parameters"]["variants"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_runs_that_differ_in_their_seed_alone_have_equal_hashes(variant):
    def of(seed):
        # A server may name a model by its seed.
        served = {"base_url": "http://localhost:1/v1", "model": f"assistant-{seed}"}
        return hashes(seed, variant=variant, generation={"backend": "served", "served": served})

    assert of(42) == of(43)


@pytest.mark.parametrize("variant", ABLATIONS)
def test_an_ablation_shares_its_parameters_with_the_whole_method(variant):
    (_, whole), (_, part) = hashes(), hashes(variant=variant)
    assert whole | part == whole
    assert "student" in part


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"soft_labels": {"kind": "compact"}}, {"soft_labels"}),
        ({"student_training": {"weights": {"kd_ratio": 0.5}}}, {"soft_labels"}),
        ({"generation": {"max_retries": 1}}, {"expansion"}),
        ({"preference": {"pairs": {"shuffled": True}}}, {"preference_pairs"}),
        ({"inputs": {"image_size": 84}}, {"assistant", "student"}),
        ({"student_training": {"optimisation": {"epochs": 3}}}, {"student"}),
        ({"student_training": {"optimisation": {"checkpoint_minutes": 3}}}, set()),
        ({"soft_labels": {"batch_size": 3}, "generation": {"batch_size": 3}}, set()),
    ],
)
def test_a_hash_tells_what_a_part_was_made_with_otherwise(given, part):
    (_, usual), (_, other) = hashes(variant="preference"), hashes(variant="preference", **given)
    assert usual.keys() == other.keys() == {"assistant", "student", "soft_labels", "expansion", "preference_pairs"}
    assert {name for name in usual if usual[name] != other[name]} == part
