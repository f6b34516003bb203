"""The Objective: which fields it reads, how it collates, what it sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from stk.data.batch import Batch, Item, Size
from stk.data.example import Example
from stk.errors import StkError

if TYPE_CHECKING:
    from stk.config.run import AugmentConfig
    from stk.data.sidecar import Sidecar
    from stk.data.vocab import Vocab
    from stk.features.frontend import FrontEnd


@dataclass(frozen=True, kw_only=True)
class CollateContext:
    """What collate may use. It lives in the worker processes and holds nothing that trains.

    Attributes:
        vocabs: view name -> vocabulary.
        frontend: turns waveforms into what the model reads; None in text-only runs.
        sidecars: name -> per-row tensors.
        augment: the stream's augmentation; None in validation and decoding.
        training: whether masks and noise of training are drawn.
        ctc_lengths: the model's CTC length as a function of a source's frames (or tokens), its
            attribute of that name; None where it has no CTC head.
        wave_lengths: states of the model's wave encoder as a function of samples (an int or int64
            lengths), its attribute of that name; None where it reads no samples.
        max_positions: tokens of the longest text that the model's learned positions hold; None
            where none are learned.
    """

    vocabs: Mapping[str, Vocab]
    frontend: FrontEnd | None = None
    sidecars: Mapping[str, Sidecar] = field(default_factory=dict)
    augment: AugmentConfig | None = None
    training: bool = True
    ctc_lengths: Callable[[int], int] | None = None
    wave_lengths: Callable[[Any], Any] | None = None
    max_positions: int | None = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the forward pass may use besides the model and the batch.

    Attributes:
        step: updates done so far.
        scalars: scheduled values at this step, by name.
        helpers: frozen models in eval mode (teachers, pre-trained encoders), by name.
        generate: ``(source, prefixes, ...) -> list of token id lists``, the current model's own
            greedy output, for online back-translation (:func:`stk.cli.judge.generator` has its
            arguments); None where the run offers none.
    """

    step: int = 0
    scalars: Mapping[str, float] = field(default_factory=dict)
    helpers: Mapping[str, nn.Module] = field(default_factory=dict)
    generate: Callable[..., list[list[int]]] | None = None


@dataclass(frozen=True, kw_only=True)
class Helper:
    """A frozen model of the run and what belongs to it, for :meth:`Objective.check_helpers`.

    Attributes:
        model: in eval mode, without gradients.
        vocabs: view name -> vocabulary, of the model's own run.
        digest: hexadecimal, of its weights.
        file: its checkpoint, for messages.
    """

    model: nn.Module
    vocabs: Mapping[str, Vocab]
    digest: str
    file: Path


@dataclass(frozen=True)
class Sum:
    """One named loss (or metric) of a micro-batch: a 0-dim sum and what it is divided by.

    Attributes:
        value: 0-dim float32 tensor, summed over the micro-batch, never averaged.
        per: key of the objective's ``counts`` whose total over the accumulation window and all
            ranks divides it.
        weight: factor in the total; 0.0 makes it a metric that is only logged.
    """

    value: Tensor
    per: str
    weight: float = 1.0


class Objective(ABC):
    """One training signal over examples that have certain fields.

    An objective is built once a stream from its config dataclass (``config``). ``collate`` runs in
    worker processes, ``forward`` inside the one module that DDP or FSDP wraps. Division by
    counts and the weighting happen once, in :mod:`stk.objectives.combine`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Manifest fields every example must have; instances may narrow it."""

    reads_audio: bool = False
    """Whether items must come with a waveform."""

    @abstractmethod
    def size(self, example: Example, context: CollateContext) -> Size:
        """What the example costs in a batch, from text and durations alone (no audio is read)."""

    @abstractmethod
    def collate(self, items: Sequence[Item], context: CollateContext) -> Batch:
        """Tensors of a batch; every mask and noise is drawn here from each row's generator."""

    @abstractmethod
    def counts(self, batch: Batch) -> dict[str, float]:
        """Tokens, frames or masked steps of the batch, known before the forward pass."""

    @abstractmethod
    def forward(self, model: Any, batch: Any, context: Context) -> dict[str, Sum]:
        """Named loss sums (and metrics, weight 0) of one micro-batch."""

    def positions(self, example: Example, size: Size, context: CollateContext) -> int:
        """Tokens of the longest text that the model reads at positions of their own.

        It is asked of examples alone whose ``size.tokens`` exceeds ``context.max_positions``, and
        is the same number unless the size counts tokens that have no position.
        """
        return size.tokens

    def refuse(self, example: Example, size: Size, context: CollateContext) -> str | None:
        """Why this example cannot be used, or None.

        Examples are counted in the report before step 1 by what stands before a colon; all of
        the text goes to the list of rows left out.
        """
        return None

    def sidecar_parts(
        self, helpers: Mapping[str, Helper], context: CollateContext
    ) -> Mapping[str, Mapping[str, object]]:
        """What the sidecars this objective reads must have been made with.

        Every sidecar of a run is named by an objective that reads it, so that none is used whose
        origin nobody has compared.

        Returns:
            Name of the sidecar -> name of a part -> its value, see
            :meth:`stk.data.sidecar.Sidecar.expect`.
        """
        return {}

    def check_helpers(self, helpers: Mapping[str, Helper], context: CollateContext) -> None:
        """Raise unless helpers and sidecars are what this objective can use.

        It is called once, before the first update. Overriding methods call it too: it compares
        the sidecars with :meth:`sidecar_parts`.

        Raises:
            StkError: says which of them does not fit, and why.
        """
        for name, parts in self.sidecar_parts(helpers, context).items():
            if name not in context.sidecars:
                known = ", ".join(context.sidecars) or "none"
                raise StkError(
                    f"no sidecar {name!r}",
                    mend=f"sidecars of this run: {known}; see stk-data bert and stk-data teacher",
                )
            context.sidecars[name].expect(**parts)

    def require(self, example: Example) -> None:
        """Raise unless the example has every field this objective needs.

        Raises:
            StkError: names the file, the row and the missing field.
        """
        missing = sorted(self.needs - example.present)
        if missing:
            raise StkError(
                f"example {example.id!r} lacks {', '.join(missing)}",
                file=example.file,
                row=example.row,
                mend=f"{type(self).__name__} needs {', '.join(sorted(self.needs))}",
            )
