"""A teacher's most probable tokens for every position of known targets, kept in a sidecar.

What :class:`stk.objectives.distillation.Distillation` reads instead of running the teacher in
every update (the top of the distribution, as in Tan et al., 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from stk.config.run import BatchConfig, DecodeConfig
from stk.data.example import Example
from stk.data.items import make_item
from stk.data.sidecar import SidecarWriter, made_by
from stk.decoding.decode import plan
from stk.decoding.member import Member, load_member
from stk.errors import StkError
from stk.objectives.cross_entropy import CrossEntropy, target_logits
from stk.objectives.distillation import TEACHER_KIND
from stk.training.checkpoint import WEIGHTS, resolve_checkpoint
from stk.training.tensors import weights_digest

Track = Callable[[Sequence[list[int]]], Iterable[list[int]]]


def write_teacher(
    checkpoint: str | Path,
    examples: Sequence[Example],
    out: str | Path,
    *,
    top: int = 8,
    task: str | None = None,
    batch: BatchConfig | None = None,
    device: torch.device | str = "cpu",
    track: Track = iter,
) -> int:
    """Run a teacher over examples with source and target, and write its sidecar.

    A row has, for the ``n`` labels of its target (end symbol included), ``labels (n,)`` int32,
    ``choices (n, top)`` int32 and their renormalised ``probs (n, top)`` fp16.

    Args:
        checkpoint: of the teacher; a run's directory or one checkpoint.
        examples: rows with what the teacher's task reads and writes.
        out: directory to write.
        top: tokens kept a position, at least 1.
        task: name of the teacher's training stream; None: the first.
        batch: bounds of a batch.
        device: where the teacher runs.
        track: shows progress over batches.

    Returns:
        Rows written.

    Raises:
        StkError: a checkpoint or row that cannot be used, or ``top`` out of range.
    """
    member = load_member(checkpoint, task=task, device=device)
    objective = member.objective
    if not isinstance(objective, CrossEntropy):
        raise StkError("a teacher's task is cross_entropy", file=member.name, mend="use --task")
    vocab = member.vocab(DecodeConfig())
    if not 1 <= top <= len(vocab):
        raise StkError(f"top {top} does not lie between 1 and {len(vocab)}", file=member.name)
    parts = {
        "kind": TEACHER_KIND,
        "weights": weights_digest(resolve_checkpoint(checkpoint) / WEIGHTS),
        "target_vocabulary": vocab.digest,
        "target": objective.config.target,
        "top": top,
    }
    sizes = {}
    for index, example in enumerate(examples):
        objective.require(example)
        sizes[index] = objective.size(example, member.context)
    bounds = batch or BatchConfig(max_frames=40000, max_tokens=8000)
    with SidecarWriter(out, made_by(**parts), parts) as writer:
        for places in track(plan(sizes, bounds)):
            _write_batch(member, [examples[i] for i in places], top, writer)
    return len(examples)


@torch.inference_mode()
def _write_batch(
    member: Member, examples: Sequence[Example], top: int, writer: SidecarWriter
) -> None:
    frontend = member.context.frontend if member.reads_audio else None
    items = [make_item(example, frontend) for example in examples]
    batch = member.objective.collate(items, member.context).to(member.device)
    logits = target_logits(member.model, member.model.encode(batch.source), batch.target)
    best = logits.float().softmax(-1).topk(top, dim=-1)
    shares = best.values / best.values.sum(-1, keepdim=True)
    rows = batch.target.places // batch.target.inputs.data.shape[1]
    counts = torch.bincount(rows, minlength=len(examples)).tolist()
    split = zip(
        examples,
        batch.target.labels.int().split(counts),
        best.indices.int().split(counts),
        shares.half().split(counts),
        strict=True,
    )
    for example, labels, choices, probs in split:
        writer.add(example.id, {"labels": labels, "choices": choices, "probs": probs})
