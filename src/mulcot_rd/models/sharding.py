"""Frozen weights beside which training has no room: each process keeps a part, and gathers a layer when needed.

PyTorch's FSDP2 with what is trained left out of it: adapters are the same in all processes, and no checkpoint holds a
part of a tensor.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from mulcot_rd.distributed import Group
from mulcot_rd.errors import UserError
from mulcot_rd.models.forward import base_model
from mulcot_rd.models.lora import TrainedModel


def shard_frozen(model: TrainedModel, group: Group) -> None:
    """Shard the frozen weights of a model over the processes of a group, layer by layer.

    Raises:
        UserError: If all parameters are trained, so that there is nothing to shard.
    """
    trained = {parameter for parameter in model.parameters() if parameter.requires_grad}
    if all(parameter in trained for parameter in model.parameters()):
        raise UserError("cluster.shard_base shards frozen weights, and all of this model are trained: set it to false")
    if group.size == 1:
        return
    inner = base_model(model).model
    mesh = init_device_mesh(model.device.type, (group.size,))
    layers = [layer for stack in inner.modules() if isinstance(stack, nn.ModuleList) for layer in stack]
    for module in [*layers, inner]:
        if any(parameter not in trained for parameter in module.parameters()):
            fully_shard(module, mesh=mesh, ignored_params=trained)


def is_sharded(model: TrainedModel) -> bool:
    """Whether a model's frozen weights are sharded."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


@contextmanager
def unsharded(model: TrainedModel) -> Iterator[None]:
    """While inside, every process has all weights, so that each can run as many passes as it likes."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    yield
    for part in parts:
        part.set_reshard_after_forward(True, recurse=False)
        part.reshard()
