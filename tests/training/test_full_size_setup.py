"""The full-size set-up on small models: recomputed activations, soft labels, what is trained in float32.

That is LoRA over weights in bfloat16, or every weight where a family is trained whole.
"""

import torch
from tests.soft_labels import store_soft_labels

from mulcot_rd.kept import Kept
from mulcot_rd.models import AdapterParameters
from mulcot_rd.models.loaded import fresh_model
from mulcot_rd.prompts import TASKS
from mulcot_rd.training.batches import collate, make_example
from mulcot_rd.training.expansion import teacher_rows
from mulcot_rd.training.forward import output_head, target_states
from mulcot_rd.training.objective import StudentLossWeights, chunked_loss
from mulcot_rd.training.soft_labels import SoftLabelParameters


def test_a_distillation_step_moves_what_is_trained_alone(backbone_parameters, checkpoint, posts, reasonings, tmp_path):
    adapter = backbone_parameters.adapter if backbone_parameters.adapter.full else AdapterParameters(lora_dropout=0.05)
    dtype = "float32" if adapter.full else "bfloat16"
    parameters = backbone_parameters.model_copy(
        update={"dtype": dtype, "adapter": adapter, "gradient_checkpointing": True}
    )
    assistant, student = (
        fresh_model(name, parameters, checkpoint, image_size=56, seed=seed)
        for name, seed in (("assistant", 1), ("student", 2))
    )
    by_id = {post.id: post for post in posts}
    examples = [make_example(row, by_id[row.post_id], student.encoder, TASKS) for row in teacher_rows(reasonings)]
    assistant.model.eval()
    soft = store_soft_labels(
        assistant, examples, Kept(tmp_path, "soft"), {"model": "x"}, SoftLabelParameters(rows_per_shard=4)
    )
    batch = collate(examples, student.encoder)
    student.model.train()
    trained = [parameter for parameter in student.model.parameters() if parameter.requires_grad]
    frozen = [parameter.clone() for parameter in student.model.parameters() if not parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    weights = StudentLossWeights(vocabulary_size=len(student.encoder.tokenizer))
    counts = {task: len(ids) for task, ids in batch.targets.items()}
    totals = []
    for _ in range(8):
        states = target_states(student.model, batch)
        taught = soft.distributions(range(len(examples)), examples, torch.device("cpu"))
        assert {values.dtype for values in (*states.values(), *(t.states for t in taught.values()))} == {
            getattr(torch, dtype)
        }
        loss = chunked_loss(output_head(student.model), states, batch.targets, taught, weights, counts)
        assert loss.total.dtype == torch.float32
        loss.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        totals.append(float(loss.total.detach()))
    assert totals[-1] < totals[0]
    still = [parameter for parameter in student.model.parameters() if not parameter.requires_grad]
    assert all(torch.equal(before, after) for before, after in zip(frozen, still, strict=True))
