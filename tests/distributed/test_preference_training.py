"""Preference optimisation gives the same bytes for any number of processes, and after a kill at any step."""

import math
from itertools import count
from pathlib import Path

import pytest
from tests.training.test_preference_objective import make_pairs

from mulcot_rd.preference.job import optimise_preferences
from mulcot_rd.training.checkpoints import Checkpoints
from mulcot_rd.training.parameters import PreferenceTrainingParameters
from mulcot_rd.training.train import history_of

pytestmark = pytest.mark.slow


class KilledError(Exception):
    """Stands for a SIGKILL: nothing after it runs."""


@pytest.fixture(scope="session")
def distilled(train, tmp_path_factory):
    """A student to begin with."""
    return train("student", tmp_path_factory.mktemp("distilled"), 1, epochs=1)


@pytest.fixture(scope="session")
def optimise(distilled, all_posts, reasonings, parameters):
    """Trains it on pairs in a folder, with so many workers: two steps an epoch, of three micro-batches each."""

    def run(folder, workers=1, **given):
        own = parameters("student", workers)
        training = PreferenceTrainingParameters(optimisation=own.training.optimisation, beta=0.5, **given)
        return optimise_preferences(distilled, make_pairs(reasonings), all_posts, own, training, folder)

    return run


@pytest.fixture(scope="session")
def alone(optimise, tmp_path_factory):
    """What one undisturbed process gives."""
    return optimise(tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("family_name", ["flan_t5", "qwen3_vl"], indirect=True)
def test_training_gives_the_same_bytes(optimise, alone, tmp_path):
    assert {**optimise(tmp_path, 2), "folder": ""} == {**alone, "folder": ""}


@pytest.mark.parametrize("family_name", ["flan_t5", "qwen3_vl"], indirect=True)
@pytest.mark.parametrize("saves", [1, 3])
def test_a_killed_training_ends_as_an_undisturbed_one(optimise, alone, tmp_path, monkeypatch, saves):
    """The reference stays that of the start, though the model has moved on when it goes on."""
    save, number = Checkpoints.save, count(1)

    def dying(*given):
        save(*given)
        if next(number) == saves:
            raise KilledError

    monkeypatch.setattr(Checkpoints, "save", dying)
    with pytest.raises(KilledError):
        optimise(tmp_path)
    monkeypatch.setattr(Checkpoints, "save", save)
    assert {**optimise(tmp_path), "folder": ""} == {**alone, "folder": ""}


@pytest.mark.parametrize("family_name", ["flan_t5", "qwen3_vl"], indirect=True)
def test_the_history_holds_rewards_and_lengths_and_the_margin_grows(alone, distilled):
    history = history_of(Path(alone["folder"]))
    steps, epochs = ([row for row in history if ("score" in row) is of_epoch] for of_epoch in (False, True))
    # Of the model in training as of its reference: dropout is off.
    assert steps[0]["preference_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert steps[0]["reward_margin"] == pytest.approx(0, abs=1e-4)
    assert steps[-1]["reward_margin"] > steps[0]["reward_margin"]
    assert all({"chosen_reward", "rejected_reward", "reasoning_loss", "label_loss"} <= row.keys() for row in steps)
    assert all(row["reasoning_words"] > 0 for row in epochs)
    assert (alone["role"], alone["training_rows"]) == ("student_preference", 6)
    assert alone["base"] == distilled["base"]


@pytest.mark.parametrize("family_name", ["qwen3_vl"], indirect=True)
def test_other_pairs_or_another_loss_are_another_training(optimise, alone, tmp_path):
    assert optimise(tmp_path)["fingerprint"] == alone["fingerprint"]
    assert optimise(tmp_path, loss_type="ipo")["fingerprint"] != alone["fingerprint"]
