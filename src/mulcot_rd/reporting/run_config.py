"""The parameters of a run: what made each of its results, and where they differ from the defaults."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from mulcot_rd.credentials import recorded
from mulcot_rd.fingerprint import flat
from mulcot_rd.ingest import IngestParameters
from mulcot_rd.parameters import RunParameters

# Prices are facts about servers; in the group judge they stand one level deeper.
_PRICES = {"prices": True, "teacher": {"prices"}}
_MADE_FROM = ("backbone", "training", "inputs", "seed")


def run_config(
    run: RunParameters, parameters: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Every parameter that the scores of a run depend on, without keys and passwords.

    Args:
        run: What names the run.
        parameters: The resolved parameters at hand, which evaluate the run.
        results: What says how it was made: ``teacher`` (the summary of the annotation), ``assistant`` and ``student``
            (their manifests), ``expansion`` (the statistics of the data expansion); where there is preference
            optimisation ``preference_pairs`` (statistics) and ``student_preference`` (manifest). Where one is missing,
            the parameters at hand stand in its place.

    Returns:
        ``run``, ``ingest``, ``teacher``, ``assistant``, ``expansion``, ``student`` and ``evaluation``; in a variant
        with preference optimisation also ``preference_pairs`` and ``student_preference``.
    """
    models = {name: _plain(parameters[name]) for name in ("assistant", "student")}
    answering = {name: {"generation": model.pop("generation"), "seed": model["seed"]} for name, model in models.items()}
    made = {
        "teacher": _plain(parameters["teacher"]),
        "assistant": models["assistant"],
        "expansion": answering["assistant"],
        "student": {**models["student"], "soft_labels": _plain(parameters["soft_labels"])},
    }
    if models["student"]["method"].get("preference"):
        preference = _plain(parameters["preference"])
        made["preference_pairs"] = {**preference["pairs"], "seed": preference["seed"]}
        made["student_preference"] = {**models["student"], "training": preference["training"]}
    made |= {name: _recorded_in(result) for name, result in results.items()}
    judge = _plain(parameters["judge"])
    evaluation = {
        "captions_needed": models["student"]["inputs"]["captions_needed"],
        **answering,
        "efficiency": _plain(parameters["efficiency"]),
        "judge": judge if judge["posts"] else {"posts": 0},
    }
    ingest = recorded(IngestParameters.model_validate(parameters["ingest"]))
    return {"run": recorded(run), "ingest": ingest, **made, "evaluation": evaluation}


def changed_parameters(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """The parameters that differ from the defaults, each as ``name: default -> value``.

    Args:
        config: What :func:`run_config` gives. Of its block ``run`` the limit counts: every report names the rest.
        defaults: The same of the shipped configuration.
    """
    usual = flat(defaults)
    return [
        f"{name}: {usual[name]} -> {value}"
        for name, value in flat(config).items()
        if (name == "run.limit" or not name.startswith("run.")) and name in usual and value != usual[name]
    ]


def parameters_note(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """What stands under a run's results about its parameters.

    Args:
        config: The contents of ``config.yml``; empty where the run has none.
        defaults: What :func:`run_config` gives for the shipped configuration.
    """
    if not config:
        return "No config.yml says which parameters made these results: the pipeline evaluation writes it."
    changed = changed_parameters(config, defaults)
    differing = f"They differ from the defaults in: {'; '.join(changed)}." if changed else "They are the defaults."
    return (
        "config.yml beside this table holds every parameter: for teacher, assistant, data expansion and student those "
        f"that each was made with. {differing}"
    )


def _recorded_in(result: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a result was made with, and which result that is."""
    # Earlier versions recorded no "config": of models there is what their weights depend on.
    known = {**result.get("made_from", {}), **result}
    names = ("models", "fingerprint", "training_rows", "best_epoch", *(() if "config" in result else _MADE_FROM))
    return {name: known[name] for name in names if name in known} | result.get("config", {})


def _plain(parameters: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as plain values; a group that no requested pipeline reads arrives as it stands in the files."""
    return recorded(parameters, _PRICES) if isinstance(parameters, BaseModel) else dict(parameters)
