"""Distils the tiny student with TRL's GOLD trainer: ``run_trl.py SETTING.json``.

Run by ``bench/trl_peer.py`` with the Python of an environment of its own. TRL's trainer for vision-language models
takes one answer a row, so a training row of ours is two of its rows, and it has the divergence of Eqs. 10 and 11
(forward, the same temperature) but no hard labels. The assistant is live, nothing is generated (``lmbda=0``). Prints
the seconds of each epoch behind the first, and TRL's version.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TRL_EXPERIMENTAL_SILENCE="1")

import torch
import trl
from transformers import TrainerCallback
from trl.experimental.gold import GOLDConfig, GOLDTrainer

from datasets import Dataset
from mulcot_rd.images import load_image
from mulcot_rd.models import BackboneParameters, load_backbone
from mulcot_rd.models.loaded import fresh_model


class EpochTimes(TrainerCallback):
    """Seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def on_epoch_begin(self, *_: object, **__: object) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, *_: object, **__: object) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self._started)


def main(path: str) -> None:
    """Train and print."""
    setting = json.loads(Path(path).read_text(encoding="utf-8"))
    folders = {name: own["folder"] for name, own in setting["roles"].items()}
    backbones = {name: BackboneParameters(**own["backbone"]) for name, own in setting["roles"].items()}
    made = {"location": folders["student"], "revision": None, "fingerprint": "student"}
    student = fresh_model("student", backbones["student"], made, image_size=setting["image_size"], seed=1)
    assistant = load_backbone(backbones["assistant"], folders["assistant"]).model.requires_grad_(False)
    rows = [
        {
            "images": [load_image(row["image"], setting["image_size"])],
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
        }
        for row in setting["rows"]
    ]
    times = EpochTimes()
    trainer = GOLDTrainer(
        model=student.model,
        teacher_model=assistant,
        args=GOLDConfig(
            output_dir=setting["folder"],
            lmbda=0.0,
            beta=0.0,
            temperature=setting["temperature"],
            per_device_train_batch_size=setting["batch_size"],
            gradient_accumulation_steps=setting["gradient_accumulation_steps"],
            num_train_epochs=setting["epochs"],
            learning_rate=0.0,
            lr_scheduler_type="constant",
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            disable_dropout=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=student.encoder.processor,
        callbacks=[times],
    )
    trainer.train()
    found = {"seconds": times.seconds[1:], "version": trl.__version__, "threads": torch.get_num_threads()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
