"""The largest batches are tried before the first update: memory runs out now or never."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from stk.data.loader import MicroBatch
from stk.errors import StkError
from stk.objectives.base import Context, Objective
from stk.training import rng
from stk.training.distributed import Workers
from stk.training.window import backward_window, count_window


def try_batches(
    module: nn.Module,
    batches: Sequence[MicroBatch],
    objectives: Mapping[str, Objective],
    context: Context,
    workers: Workers,
    precision: str,
) -> None:
    """Forward and backward of every batch; weights, buffers and generators stay as they are.

    Args:
        module: the objective module: wrapped for FSDP, bare for DDP (which then does not notice).
        batches: the largest of every stream.
        objectives: stream name -> objective.
        context: handed to the objectives.
        workers: the processes.
        precision: of the configuration.

    Raises:
        StkError: a batch does not fit into memory; names its stream and the mend.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    for micro in batches:
        try:
            with rng.undisturbed():
                counts = count_window([micro], objectives, workers)
                backward_window(module, [micro], counts, context, workers, precision)
        except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not _out_of_memory(error):
                raise
            raise StkError(
                f"the largest batch of stream {micro.stream!r} ({len(micro.batch.ids)} examples) "
                f"does not fit into the memory of {workers.device}",
                mend="lower the stream's batch bounds (and raise training.accumulate), or set "
                "training.activation_checkpointing",
            ) from None
        finally:
            for parameter in module.parameters():
                parameter.grad = None
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return "allocate memory" in str(error)  # what PyTorch's CPU allocator says
