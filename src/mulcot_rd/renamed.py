"""Parameters that had other names in earlier versions: refused from users, recognised in results on disk."""

import re
from collections.abc import Iterable
from typing import Any

from mulcot_rd.errors import UserError

# Earlier name to the name now, which is that of transformers' TrainingArguments, peft's LoraConfig, or the like.
RENAMED = {
    "accumulation": "gradient_accumulation_steps",
    "alpha": "lora_alpha",
    "attention": "attn_implementation",
    "checkpoint_every": "checkpoint_minutes",
    "distillation": "kd_ratio",
    "dropout": "lora_dropout",
    "fully_trained_modules": "modules_to_save",
    "gradient_norm": "max_grad_norm",
    "halve_after": "lr_patience",
    "minimum_learning_rate": "min_lr",
    "presentation": "input_view",
    "rank": "r",
    "stop_after": "early_stopping_patience",
}
# What a user calls an entry of these groups is no parameter's name.
_NAMED_BY_USERS = ("architectures", "lora", "variants")
_EARLIER = {now: earlier for earlier, now in RENAMED.items()}


def refuse_earlier_names(parameters: Iterable[tuple[tuple[Any, ...], Any]]) -> None:
    """Refuse parameters under earlier names, also where another value refers to one (``${...}``).

    Args:
        parameters: Path and value of each parameter that a user may have set.

    Raises:
        UserError: If there is one; the message has both names.
    """
    for path, value in parameters:
        references = re.findall(r"[\w.]+(?=[,}])", value) if isinstance(value, str) and "${" in value else []
        for name in (".".join(map(str, path)), *references):
            pieces = name.split(".")
            now = [
                piece if group in _NAMED_BY_USERS else RENAMED.get(piece, piece)
                for group, piece in zip(["", *pieces], pieces, strict=False)
            ]
            if now != pieces:
                raise UserError(f"the parameter {name} has another name now: write {'.'.join(now)}")


def current_names(values: dict[str, Any]) -> dict[str, Any]:
    """A mapping of a file that an earlier version may have written, with its parameters' names of now."""
    return {RENAMED.get(name, name): value for name, value in values.items()}


def hashed_name(name: str) -> str:
    """The name under which a fingerprint takes a parameter: the earliest, so that finished results stay found."""
    return _EARLIER.get(name, name)
