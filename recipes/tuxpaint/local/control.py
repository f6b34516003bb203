"""How well pre-trained wav2vec 2.0 tells masked steps apart, beside a control that hears nothing.

The control knows where a frame stands and how long its clip is: it has the same frozen targets, and
a new context network that reads the mask vector at every frame, trained for as many updates.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stk.config.run import MixingConfig, RunConfig
from stk.data.loader import Loader, one_pass
from stk.data.stream import Stream
from stk.errors import StkError
from stk.models.wav2vec2 import Wav2Vec2
from stk.modules.quantizer import QuantizerOutput, code_perplexity
from stk.objectives.base import Context
from stk.objectives.contrastive import Contrastive
from stk.training.assemble import Data, new_model

TARGETS = ("encoder.extractor.", "encoder.feature_norm.", "quantizer.", "target.")
"""Prefixes of the parameters that targets are made of."""


def contrastive_stream(streams: Sequence[Stream]) -> Stream:
    """The stream that tells masked steps apart.

    Raises:
        StkError: none does.
    """
    for stream in streams:
        if isinstance(stream.objective, Contrastive):
            return stream
    raise StkError(
        "the checkpoint's run has no contrastive stream to train on and validate by",
        mend="give a checkpoint that stk-train made by objective: {name: contrastive}",
    )


@torch.no_grad()
def told_apart(model: Wav2Vec2, stream: Stream) -> dict[str, float]:
    """Accuracy, the share of distractors that equal the positive, and perplexity of the codes.

    Args:
        model: is put into evaluation mode.
        stream: of validation.
    """
    model.eval()
    groups, codes, _ = model.quantizer.codebook.shape
    counts = torch.zeros(groups, codes, dtype=torch.int64)

    def count(_: object, __: object, out: QuantizerOutput) -> None:
        counts.add_(out.code_counts)

    hook = model.quantizer.register_forward_hook(count)
    masked = accuracy = duplicates = 0.0
    for micro in one_pass(stream):
        sums = stream.objective.forward(model, micro.batch, Context())
        masked += stream.objective.counts(micro.batch)["masked"]
        accuracy += float(sums["accuracy"].value)
        duplicates += float(sums["duplicates"].value)
    hook.remove()
    return {
        "accuracy": accuracy / masked,
        "duplicates": duplicates / masked,
        "code_perplexity": float(code_perplexity(counts).sum()),
        "codes": float(groups * codes),
    }


def deaf(trained: Wav2Vec2, config: RunConfig, data: Data) -> Wav2Vec2:
    """A new model with the frozen targets of ``trained``, whose context network hears nothing."""
    model = new_model(config, data)
    assert isinstance(model, Wav2Vec2)
    state = {n: p for n, p in trained.state_dict().items() if n.startswith(TARGETS)}
    model.load_state_dict(state, strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(TARGETS))
    hear = model.encoder.contextualize

    def blind(normed: Tensor, lengths: Tensor, masked: Tensor | None) -> Tensor:
        return hear(normed, lengths, torch.ones(normed.shape[:2], dtype=torch.bool))

    model.encoder.contextualize = blind  # type: ignore[method-assign]
    return model


def train(model: Wav2Vec2, stream: Stream, seed: int, updates: int) -> None:
    """Train what is not frozen; the rate rises over a tenth of the updates and falls to zero.

    Args:
        model: the control.
        stream: of training.
        seed: of the order of batches.
        updates: at least 1.
    """
    wanted = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=1e-3, betas=(0.9, 0.98), eps=1e-6)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: min((done + 1) / max(1.0, 0.1 * updates), 1.0 - done / updates)
    )
    model.train()
    model.quantizer.eval()  # choices without noise, as they are measured
    batches = iter(Loader([stream], MixingConfig(), seed=seed))
    for step in range(1, updates + 1):
        batch = next(batches).batch
        sums = stream.objective.forward(model, batch, Context(step=step))
        loss = sums["contrastive"].value / stream.objective.counts(batch)["masked"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()


def control(trained: Wav2Vec2, config: RunConfig, data: Data, updates: int) -> dict[str, float]:
    """What the control reaches after ``updates`` updates; see :func:`told_apart`."""
    model = deaf(trained, config, data)
    train(model, contrastive_stream(data.streams), config.seed, updates)
    return told_apart(model, contrastive_stream(data.validation))
