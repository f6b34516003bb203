"""Processes that train together: set-up from torchrun's variables, sums, and sharding."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from stk.errors import StkError

T = TypeVar("T")


class ElsewhereError(SystemExit):
    """Another process met an error and reports it; this one ends with status 1 in silence."""

    def __init__(self) -> None:
        super().__init__(1)


@dataclass(frozen=True)
class Workers:
    """The processes of a run.

    Numbers and objects travel over gloo on the CPU, so that they never wait for the GPU; gradients
    travel over nccl where there are GPUs.

    Attributes:
        rank: this process, in [0, world).
        world: number of processes.
        device: where this process computes.
        joined: whether this object set the process group up, and so takes it down.
    """

    rank: int
    world: int
    device: torch.device
    joined: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all processes, exact as float64; every process must bring the same keys."""
        if self.world == 1:
            return dict(values)
        names = sorted(values)
        total = torch.tensor([values[name] for name in names], dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def gather(self, value: T) -> list[T]:
        """Every process's (picklable) value, in rank order, on every process."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def on_main(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the main process and hand its (picklable) result to all.

        Raises:
            StkError: in the main process, if ``work`` raises it; the others end in silence.
        """
        if self.world == 1:
            return work()
        box: list[Any] = [False, None]
        try:
            if self.is_main:
                box = [True, work()]
        finally:  # the others wait here, whatever went wrong
            dist.broadcast_object_list(box, src=0)
        if not box[0]:
            raise ElsewhereError
        return box[1]

    def close(self) -> None:
        """Leave the process group, together; nothing may hold it any more (a DDP module would).

        The barrier lets gloo's threads let go of their tensors: one that still waits for Python's
        lock while the group is destroyed under that lock would wait for ever.
        """
        if self.joined and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()


def join(device: Literal["auto", "cpu", "cuda"] = "auto") -> Workers:
    """Join the processes that ``torchrun`` started, or work alone without it.

    Args:
        device: ``auto`` takes a GPU where there is one.

    Raises:
        StkError: ``cuda`` was asked for and there is none, or none is left for this process.
    """
    rank = int(os.environ.get("RANK", "0"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda" and not torch.cuda.is_available():
        raise StkError("training.device: cuda, but PyTorch sees no GPU", mend="use auto or cpu")
    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu and local >= torch.cuda.device_count():
        raise StkError(
            f"process {local} of this machine finds {torch.cuda.device_count()} GPUs",
            mend="start at most one process a GPU (torchrun --nproc-per-node)",
        )
    place = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(place)
    if world == 1 or dist.is_initialized():
        return Workers(rank, world, place)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(minutes=60),  # the main process may decode for long
    )
    return Workers(rank, world, place, joined=True)


def blocks(model: nn.Module) -> list[nn.Module]:
    """The repeated layers of a model: outermost members of ``nn.ModuleList`` that have parts."""
    found: list[nn.Module] = []
    for child in model.children():
        if isinstance(child, nn.ModuleList):
            found.extend(member for member in child if any(True for _ in member.children()))
        else:
            found.extend(blocks(child))
    return found


def wrap(
    module: nn.Module, workers: Workers, strategy: Literal["auto", "ddp", "fsdp"]
) -> nn.Module:
    """Make several processes train ``module`` as one.

    One process gets its module back. DDP copies the module, FSDP2 (``fully_shard``) cuts every
    layer's parameters and the optimiser's state into equal shares, in place.

    Args:
        module: on its device, with the same weights in every process.
        workers: the processes.
        strategy: ``auto`` is ``ddp``.
    """
    if workers.world == 1:
        return module
    if strategy == "fsdp":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(workers.device.type, (workers.world,))
        for block in blocks(module):
            fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)
        return module
    # Streams, frozen parts and unused heads leave parameters without a gradient in some updates,
    # which DDP can cope with; where all have one, it would warn. One idle number keeps it quiet.
    if not hasattr(module, "idle"):
        module.idle = nn.Parameter(torch.zeros(1, device=workers.device))
    buffers = set(module.state_dict()) - {
        n for n, _ in module.named_parameters(remove_duplicate=False)
    }
    return nn.parallel.DistributedDataParallel(
        module,
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
        broadcast_buffers=bool(buffers),  # those that are not saved are the same everywhere
    )


@contextmanager
def gradient_sync(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Whether the backward passes within sum gradients over processes or only collect them."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(wanted)
        yield
    elif isinstance(module, nn.parallel.DistributedDataParallel) and not wanted:
        with module.no_sync():
            yield
    else:
        yield


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be cut into shares, detached; every process must call it."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(whole: Tensor, parameter: Tensor) -> Tensor:
    """``whole`` on the device of ``parameter``, cut into shares the same way."""
    whole = whole.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(
            whole, parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    return whole
