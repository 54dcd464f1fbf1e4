"""The training loop: batch size changes nothing, schedule, early end, exact resume after a kill at any step."""

import json
import shutil

import pytest
import torch

from mulcot_rd.errors import UserError
from mulcot_rd.fingerprint import file_fingerprint
from mulcot_rd.kept import DamagedError
from mulcot_rd.models import trained_weights
from mulcot_rd.models.loaded import fresh_model
from mulcot_rd.training.assistant import AssistantObjective
from mulcot_rd.training.loop import Trainer
from mulcot_rd.training.objective import TaskWeights
from mulcot_rd.training.parameters import OptimisationParameters, ValidationParameters
from mulcot_rd.training.prefetch import Preparation
from mulcot_rd.training.train import history_of

pytestmark = pytest.mark.slow


class KilledError(Exception):
    """Stands for a SIGKILL: nothing after it runs."""


def _trainer(role, examples, folder, scores=(0.5, 0.6, 0.7), fingerprint="same", **optimisation):
    parameters = OptimisationParameters(
        **{
            "epochs": len(scores),
            "batch_size": 2,
            "gradient_accumulation_steps": 1,
            "learning_rate": 1e-2,
            "checkpoint_minutes": 0,
            "validation": ValidationParameters(),
            **optimisation,
        }
    )

    prepare = Preparation(examples, role.encoder, None, None, role.model.device)
    trainer = Trainer(
        name="assistant",
        model=role.model,
        objective=AssistantObjective(role.model, TaskWeights(), len(role.encoder.tokenizer)),
        prepare=prepare,
        examples=examples,
        validate=lambda step: {"score": scores[trainer.state.epoch]},
        parameters=parameters,
        seed=7,
        folder=folder,
        fingerprint=fingerprint,
    )
    return trainer


@pytest.fixture
def fresh(backbone_parameters, checkpoint):
    """Makes equal roles, each untrained."""
    return lambda: fresh_model("assistant", backbone_parameters, checkpoint, image_size=56, seed=3)


def _trained(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 6), (2, 3), (3, 2)])
def test_batch_size_and_accumulation_change_nothing(fresh, examples, tmp_path, batch_size, accumulation):
    """One window of six rows gives the same step however it is cut; dropout is off, it draws per micro-batch."""
    results = []
    for rows, steps in ((6, 1), (batch_size, accumulation)):
        role = fresh()
        for module in role.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer = _trainer(
            role,
            examples,
            tmp_path / f"{rows}",
            scores=(0.1,),
            batch_size=rows,
            gradient_accumulation_steps=steps,
            learning_rate=1e-3,
        )
        results.append((trainer.run().history[0], _trained(role.model)))
    (first, weights), (other, others) = results
    for term in ("label_loss", "reasoning_loss"):
        assert first[term] == pytest.approx(other[term], rel=1e-5)
    for name, value in weights.items():
        # Adam's first step has the gradient's sign alone, so rounding of a gradient near zero may flip it.
        assert (value - others[name]).abs().gt(1e-4).float().mean() < 0.02


def test_training_lowers_both_losses(fresh, examples, tmp_path):
    history = [r for r in _trainer(fresh(), examples, tmp_path, scores=(0.1,) * 8).run().history if "score" not in r]
    for term in ("label_loss", "reasoning_loss"):
        assert history[-1][term] < 0.7 * history[0][term]


def test_a_kill_after_any_step_changes_nothing(fresh, examples, tmp_path, monkeypatch):
    whole = _trainer(fresh(), examples, tmp_path / "whole").run()
    wanted = file_fingerprint(trained_weights(whole.best_folder))
    steps = 9
    folder = tmp_path / "killed"
    done = 0
    for kill_at in (1, 3, 4, 8):
        trainer = _trainer(fresh(), examples, folder)
        assert trainer.state.step == done
        step = trainer._step

        def dying(window, batches, step=step, trainer=trainer, kill_at=kill_at):
            if trainer.state.step == kill_at:
                # What a kill in the middle of a write leaves behind: a torn history line, a partial checkpoint.
                with (folder / "history.jsonl").open("a") as stream:
                    stream.write('{"epoch": 1, "st')
                (folder / "checkpoint" / ".step-9999999.safetensors.1.partial").write_bytes(b"torn")
                raise KilledError
            return step(window, batches)

        monkeypatch.setattr(trainer, "_step", dying)
        with pytest.raises(KilledError):
            trainer.run()
        done = kill_at
    resumed = _trainer(fresh(), examples, folder).run()
    assert resumed.history == whole.history
    assert len([row for row in whole.history if "score" not in row]) == steps
    assert file_fingerprint(trained_weights(resumed.best_folder)) == wanted


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
            ],
        ),
    ],
)
def test_the_optimizer_comes_back_as_it_was_where_it_was(backbone_parameters, checkpoint, examples, tmp_path, device):
    """The fused optimizer keeps its step counter beside the weights."""

    def trainer():
        role = fresh_model("assistant", backbone_parameters, checkpoint, image_size=56, seed=3)
        role.model.to(device)
        return _trainer(role, examples, tmp_path, scores=(0.1, 0.2))

    whole = trainer()
    whole.run()
    states = [whole.optimizer.state[parameter] for parameter in whole._trained]
    resumed = trainer()
    for parameter, before in zip(resumed._trained, states, strict=True):
        again = resumed.optimizer.state[parameter]
        assert set(again) == set(before)
        for name, value in before.items():
            assert again[name].device == value.device
            assert torch.equal(again[name], value)
    # Another step is taken with it.
    for parameter in resumed._trained:
        parameter.grad = torch.ones_like(parameter)
    resumed.optimizer.step()


def test_checkpoints_are_written_by_time_and_before_an_epoch_is_scored(fresh, examples, tmp_path, monkeypatch):
    trainer = _trainer(fresh(), examples, tmp_path, scores=(0.1, 0.2), checkpoint_minutes=60)
    saved = []
    save = trainer.checkpoints.save
    monkeypatch.setattr(
        trainer.checkpoints, "save", lambda state, *more: (saved.append(state.step), save(state, *more))
    )
    trainer.run()
    # At the end of each epoch, before and after its scoring.
    assert saved == [3, 3, 6, 6]


def test_a_kill_while_the_best_adapter_is_written_changes_nothing(fresh, examples, tmp_path, monkeypatch):
    whole = _trainer(fresh(), examples, tmp_path / "whole").run()
    trainer = _trainer(fresh(), examples, tmp_path / "killed")

    def dying(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise KilledError

    monkeypatch.setattr(trainer.model, "save_pretrained", dying)
    with pytest.raises(KilledError):
        trainer.run()
    resumed = _trainer(fresh(), examples, tmp_path / "killed").run()
    assert resumed.history == whole.history
    assert file_fingerprint(trained_weights(resumed.best_folder)) == file_fingerprint(
        trained_weights(whole.best_folder)
    )


@pytest.mark.parametrize("damage", [lambda raw: raw[:-9] + b"x" * 9, lambda raw: raw[: len(raw) // 2], None])
@pytest.mark.parametrize("name", ["checkpoint/step-*.safetensors", "checkpoint/state.json", "best/*.safetensors"])
def test_damaged_work_ends_in_a_sentence_and_once_deleted_begins_anew(fresh, examples, tmp_path, name, damage):
    whole = _trainer(fresh(), examples, tmp_path / "work", scores=(0.1,)).run().history
    (path,) = (tmp_path / "work").glob(name)
    if damage is not None:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    if damage is None and name.endswith("state.json"):
        # Without a state there is no checkpoint.
        assert _trainer(fresh(), examples, tmp_path / "work", scores=(0.1,)).state.step == 0
        return
    with pytest.raises(DamagedError, match=rf"put the original back, or delete {tmp_path / 'work'}"):
        _trainer(fresh(), examples, tmp_path / "work", scores=(0.1,)).run()
    shutil.rmtree(tmp_path / "work")
    assert _trainer(fresh(), examples, tmp_path / "work", scores=(0.1,)).run().history == whole


def test_work_of_another_fingerprint_is_not_continued(fresh, examples, tmp_path):
    _trainer(fresh(), examples, tmp_path, scores=(0.1,)).run()
    assert _trainer(fresh(), examples, tmp_path, scores=(0.1,)).state.finished
    assert _trainer(fresh(), examples, tmp_path, scores=(0.1,), fingerprint="other").state.step == 0


@pytest.mark.parametrize(("factor", "rates"), [(0.5, [4e-3, 4e-3, 3e-3, 3e-3]), (0.75, [6e-3, 6e-3, 4.5e-3, 4.5e-3])])
def test_the_rate_is_reduced_after_two_epochs_without_a_better_score(fresh, examples, tmp_path, factor, rates):
    how = {"learning_rate": 8e-3, "min_lr": 3e-3, "lr_factor": factor, "scores": (0.5, 0.4, 0.4, 0.4, 0.4, 0.6, 0.1)}
    outcome = _trainer(fresh(), examples, tmp_path, **how).run()
    assert [row["learning_rate"] for row in outcome.history if "score" in row] == pytest.approx([8e-3] * 3 + rates)
    assert (outcome.best_epoch, outcome.best_score) == (6, 0.6)


def test_training_ends_early_and_keeps_the_best_epoch(fresh, examples, tmp_path):
    outcome = _trainer(fresh(), examples, tmp_path, scores=(0.5, 0.9, 0.9, 0.1, 1.0), early_stopping_patience=2).run()
    assert [row["score"] for row in outcome.history if "score" in row] == [0.5, 0.9, 0.9, 0.1]
    assert outcome.best_epoch == 3


def test_warmup_raises_the_rate_linearly(fresh, examples, tmp_path):
    trainer = _trainer(fresh(), examples, tmp_path, scores=(0.1,), warmup_steps=4, learning_rate=4e-3)
    rates = []
    for step in range(6):
        trainer.state.step = step
        rates.append(trainer._rate())
    assert rates == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3, 4e-3, 4e-3])


def test_a_linear_schedule_falls_to_the_lowest_rate_whatever_the_scores(fresh, examples, tmp_path):
    how = {"learning_rate": 9e-3, "min_lr": 1e-3, "warmup_steps": 1, "lr_schedule": "linear", "lr_patience": 1}
    trainer = _trainer(fresh(), examples, tmp_path, scores=(0.5, 0.4, 0.3), **how)
    rates = []
    step = trainer.optimizer.step

    def noted(*args, **options):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return step(*args, **options)

    trainer.optimizer.step = noted
    ends = [row["learning_rate"] for row in trainer.run().history if "score" in row]
    steps = len(rates)
    assert rates == pytest.approx([9e-3] + [1e-3 + 8e-3 * (steps - n) / (steps - 1) for n in range(1, steps)])
    assert ends[-1] == 1e-3 and ends == sorted(ends, reverse=True)


def test_a_warmup_as_long_as_the_training_ends_it_and_is_named(fresh, examples, tmp_path, caplog):
    trainer = _trainer(fresh(), examples, tmp_path, scores=(0.5,), lr_schedule="linear", min_lr=1e-5)
    trainer.parameters = trainer.parameters.model_copy(update={"warmup_steps": trainer._steps})
    (end,) = [row["learning_rate"] for row in trainer.run().history if "score" in row]
    assert end == 1e-5
    assert "the learning rate never falls" in caplog.text


def test_named_layers_learn_at_a_rate_of_their_own(fresh, examples, tmp_path):
    """The first step of AdamW moves every weight by its learning rate."""

    def moves(folder, **factors):
        model = fresh()
        before = _trained(model.model)
        how = {"learning_rate": 1e-3, "weight_decay": 0.0, "scores": (0.1,)}
        _trainer(model, examples[:2], tmp_path / folder, **how, **factors).run()
        return {name: (value - before[name]).abs().max().item() for name, value in _trained(model.model).items()}

    plain = moves("plain")
    name = next(name for name, move in plain.items() if move == pytest.approx(1e-3, rel=1e-3))
    own = moves("own", lr_factors={name: 8.0})
    assert own[name] == pytest.approx(8e-3, rel=1e-3)
    assert {key: move for key, move in own.items() if name not in key} == pytest.approx(
        {key: move for key, move in plain.items() if name not in key}
    )


def test_a_training_with_rates_of_their_own_goes_on_where_it_was_killed(fresh, examples, tmp_path, monkeypatch):
    names = list(_trained(fresh().model))
    how = {"scores": (0.1, 0.2), "lr_factors": {names[1]: 3.0, names[-1]: 0.5}, "lr_schedule": "linear"}
    whole = _trainer(fresh(), examples, tmp_path / "whole", **how).run()
    trainer = _trainer(fresh(), examples, tmp_path / "killed", **how)
    step = trainer._step

    def dying(window, batches):
        if trainer.state.step == 3:
            raise KilledError
        return step(window, batches)

    monkeypatch.setattr(trainer, "_step", dying)
    with pytest.raises(KilledError):
        trainer.run()
    resumed = _trainer(fresh(), examples, tmp_path / "killed", **how).run()
    assert resumed.history == whole.history
    files = [file_fingerprint(trained_weights(outcome.best_folder)) for outcome in (whole, resumed)]
    assert files[0] == files[1]


def test_a_rate_for_layers_that_are_not_there_is_refused(fresh, examples, tmp_path):
    with pytest.raises(UserError, match="lr_factors names no_such_layer, which is in no trained parameter's name"):
        _trainer(fresh(), examples, tmp_path, lr_factors={"no_such_layer": 10.0})


def test_the_checkpoint_holds_no_pickle(fresh, examples, tmp_path):
    _trainer(fresh(), examples, tmp_path, scores=(0.1,)).run()
    endings = {path.suffix for path in (tmp_path / "checkpoint").iterdir()}
    assert endings == {".json", ".safetensors"}
    assert json.loads((tmp_path / "checkpoint" / "state.json").read_text())["finished"] is True


def test_the_history_of_earlier_versions_is_read(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "history.jsonl").write_text('{"epoch": 1, "step": 3, "score": 0.5}\n')
    assert history_of(tmp_path) == [{"epoch": 1, "step": 3, "score": 0.5}]
