"""The model with all that moves it: one call an update."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from stk.config.run import RunConfig
from stk.data.loader import MicroBatch
from stk.errors import StkError
from stk.objectives.base import Context
from stk.objectives.combine import ObjectiveModule
from stk.training import rng
from stk.training.assemble import (
    Data,
    Generate,
    bind_generate,
    load_helpers,
    new_model,
    prepare,
    seed_process,
)
from stk.training.checkpoint import WEIGHTS, Contents, load_state
from stk.training.distributed import Workers, full, wrap
from stk.training.freeze import Freezer
from stk.training.hooks import build_hooks
from stk.training.init_from import Copied, init_from
from stk.training.optim import build_optimizer, gather_state, restore_state, set_rates
from stk.training.progress import Progress
from stk.training.resume import check_resumable
from stk.training.schedule import scalars_at
from stk.training.tensors import gather_weights, load_weights, read_weights
from stk.training.trial import try_batches
from stk.training.validation import Scorer, validate_losses
from stk.training.window import Losses, backward_window, count_window


@dataclass(frozen=True)
class Step:
    """What one update did.

    Attributes:
        loss: over the window and all processes.
        losses: this process's sums, with the counts of all.
        norm: of the gradient, before clipping.
        rate: learning rate of parameters without a group.
        wishes: the extra numbers, summed over processes.
        skipped_ids: examples of the window in all processes if the update was skipped since loss
            or gradient was not finite; None otherwise.
    """

    loss: float
    losses: Losses
    norm: float
    rate: float
    wishes: dict[str, float]
    skipped_ids: list[str] | None


class Learner:
    """Model, objectives, optimiser, hooks and helpers of a run, in this process.

    Args:
        config: the run.
        data: its data side.
        workers: the processes.
        start: the checkpoint to go on from, or None.
        scorer: decodes in validation.
        generate: greedy output for objectives.
        lenient: go on although the data or the number of processes differs.

    Raises:
        StkError: parts of the configuration, of checkpoints or of helpers do not fit the model.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Data,
        workers: Workers,
        *,
        start: Path | None = None,
        scorer: Scorer | None = None,
        generate: Generate | None = None,
        lenient: bool = False,
    ) -> None:
        self.config, self.data, self.workers, self.scorer = config, data, workers, scorer
        self.sharded = config.training.strategy == "fsdp" and workers.world > 1
        self.copied: list[Copied] = []
        state = None if start is None else load_state(start)
        helpers = load_helpers(config, data, workers.device)
        self.helpers = {name: helper.model for name, helper in helpers.items()}
        frozen = {f"helper {name}": helper.digest for name, helper in helpers.items()}
        self.inputs = {**data.inputs, **frozen}
        self.changed: list[str] = []
        if state is not None:
            self.changed = check_resumable(state, data.vocabs, self.inputs, workers, lenient)
        model = self._weights(start)
        self.model = model.to(workers.device)
        prepare(model, config)
        self.progress = Progress(**state["progress"]) if state is not None else Progress()
        self.freezer = Freezer(model, config.freeze)
        if self.sharded and any(rule.until is not None for rule in config.freeze):
            raise StkError("freeze.until and strategy fsdp do not go together", mend="use ddp")
        self.freezer.apply(self.progress.update + 1)
        self.module = ObjectiveModule(model, data.objectives)
        self.wrapped = wrap(self.module, workers, config.training.strategy)
        self.optimizer = build_optimizer(model, config.optim, skip=self.freezer.never)
        self.hooks = build_hooks(config.hooks, model)
        self.generate = None if self.sharded else bind_generate(generate, model)
        self._modes_set = False
        if state is None:
            seed_process(config, workers)
        else:
            self._restore(state)

    def _weights(self, start: Path | None) -> nn.Module:
        model = new_model(self.config, self.data)
        if start is not None:
            load_weights(model, read_weights(start / WEIGHTS), file=start / WEIGHTS)
            return model
        for part in self.config.init_from:
            self.copied.append(init_from(model, part, self.data.vocabs))
        return model

    def _restore(self, state: Mapping) -> None:
        restore_state(self.optimizer, self.model, state["optimizer"])
        if len(state["hooks"]) == len(self.hooks):
            for hook, kept in zip(self.hooks, state["hooks"], strict=True):
                hook.load(kept)
        if len(state["rng"]) == self.workers.world:
            rng.restore(state["rng"][self.workers.rank])
        else:
            seed_process(self.config, self.workers)

    def describe(self) -> list[str]:
        """What trains where, one line each."""
        sizes = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        total, active = sum(n for n, _ in sizes), sum(n for n, trains in sizes if trains)
        workers = self.workers
        lines = [
            f"model {self.config.model['name']}: {total / 1e6:.2f} M parameters, "
            f"{active / 1e6:.2f} M train; {workers.world} process(es), first on {workers.device}"
        ]
        for part in self.copied:
            lines.append(f"copied {len(part.names)} tensors from {part.path}")
        if self.changed:
            lines.append(f"inputs that differ from before: {', '.join(self.changed)}")
        return lines

    def context(self, update: int) -> Context:
        """What objectives get in update number ``update``."""
        return Context(
            step=update - 1,
            scalars=scalars_at(self.config.scalars, update),
            helpers=self.helpers,
            generate=self.generate,
        )

    def _set_modes(self, update: int) -> None:
        """Train mode where something trains; only done when something changed."""
        if self.freezer.apply(update):
            self._modes_set = False
            if self.wrapped is not self.module and not self.sharded:
                del self.wrapped  # DDP asks once which parameters train, so it is made anew
                self.wrapped = wrap(self.module, self.workers, self.config.training.strategy)
        if not self._modes_set:
            self.module.train()
            self.freezer.quieten(update)
            self._modes_set = True

    def try_worst(self, batches: Sequence[MicroBatch]) -> None:
        """See that the largest batches fit; nothing changes by it."""
        update = self.progress.update + 1
        self._set_modes(update)
        module = self.wrapped if self.sharded else self.module
        objectives, precision = self.data.objectives, self.config.training.precision
        context = self.context(update)
        try_batches(module, batches, objectives, context, self.workers, precision)

    def update(self, window: Sequence[MicroBatch], wishes: Mapping[str, float]) -> Step:
        """Do the next update on one window of micro-batches.

        Args:
            window: this process's micro-batches; all processes bring the same streams.
            wishes: numbers to sum over processes on the way.
        """
        number = self.progress.update + 1
        self._set_modes(number)
        rate = set_rates(self.optimizer, self.config.optim.lr, self.config.schedule, number)
        counts = count_window(window, self.data.objectives, self.workers, wishes)
        summed = {name: counts.pop(name) for name in wishes}
        self.optimizer.zero_grad(set_to_none=True)
        share, losses = backward_window(
            self.wrapped,
            window,
            counts,
            self.context(number),
            self.workers,
            self.config.training.precision,
        )
        norm, found = self._found(share)
        self.progress.update = number
        self.progress.micro_step += len(window)
        if not math.isfinite(found["loss"]) or not math.isfinite(found["norm"]):
            ids = self._skip(window)
            return Step(found["loss"], Losses(), found["norm"], rate, summed, ids)
        self.progress.skipped_in_row = 0
        if self.config.optim.clip is not None:
            trained = [p for p in self.model.parameters() if p.grad is not None]
            nn.utils.clip_grads_with_norm_(trained, self.config.optim.clip, norm)
        self.optimizer.step()
        for hook in self.hooks:
            hook.after_step(self.model, self.optimizer, number)
        norm_value = found["norm"] / self.workers.world
        return Step(found["loss"], losses, norm_value, rate, summed, None)

    def _found(self, share: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The gradient's norm, and loss and norm summed over processes (one that is not finite
        anywhere is not finite everywhere)."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = full(nn.utils.get_total_norm(gradients)).to(share)
        values = torch.stack([share, norm]).tolist()
        return norm, self.workers.sum({"loss": values[0], "norm": values[1]})

    def _skip(self, window: Sequence[MicroBatch]) -> list[str]:
        self.progress.skipped += 1
        self.progress.skipped_in_row += 1
        own = [identifier for micro in window for identifier in micro.batch.ids]
        return [identifier for ids in self.workers.gather(own) for identifier in ids]

    def validate(self) -> dict[str, float]:
        """Losses and decoded scores, as far as the configuration asks; training is undisturbed."""
        figures: dict[str, float] = {}
        self._modes_set = False
        with rng.undisturbed(), torch.no_grad():
            model = self._whole_model().eval()
            if self.data.validation:
                figures |= validate_losses(
                    model,
                    self.data.validation,
                    self.context(max(1, self.progress.update)),
                    self.workers,
                    self.config.training.precision,
                    self.config.training.workers,
                )
            if self.config.validation.decode_manifest is not None:
                assert self.scorer is not None  # train() sees to it
                figures |= self.scorer(model, self.workers)
        return figures

    def _whole_model(self) -> nn.Module:
        """The model for use outside the wrapper; under FSDP a whole copy of it."""
        if not self.sharded:
            return self.model
        weights = gather_weights(self.model)
        copy = new_model(self.config, self.data)
        copy.load_state_dict(weights)
        return copy.to(self.workers.device)

    def contents(self, figures: Mapping[str, float]) -> Contents:
        """What goes into a checkpoint now; every process calls it, the main one's is whole."""
        keep = self.workers.is_main
        state = {
            "progress": self.progress.state(),
            "optimizer": gather_state(self.optimizer, self.model, keep),
            "rng": self.workers.gather(rng.capture()),
            "hooks": [hook.state() for hook in self.hooks],
            "vocabs": {view: vocab.digest for view, vocab in self.data.vocabs.items()},
            "inputs": self.inputs,
        }
        return Contents(
            weights=gather_weights(self.model, keep),
            config=self.config,
            vocabs=self.data.vocabs,
            metrics={"update": self.progress.update, **figures},
            state=state,
        )
