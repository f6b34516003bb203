"""Shallow fusion: a causal language model adds to the scores of a search.

A hypothesis scores ``log p_model + weight * log p_lm`` (Gulcehre et al., 2015; for speech
translation with self-training Wang et al., 2021, with a weight of 0.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stk.data.example import Example
from stk.data.vocab import Vocab
from stk.decoding.scorers import Mixture, Scorer
from stk.errors import StkError
from stk.models.language_model import LanguageModel
from stk.objectives.causal_lm import CausalLm
from stk.objectives.monolingual import language_field, language_id
from stk.objectives.registry import build_objective
from stk.training.checkpoint import load_model


@dataclass(frozen=True)
class Fusion:
    """A language model and what its scores are multiplied by.

    Attributes:
        model: in evaluation mode.
        vocab: its vocabulary, that of the output id for id.
        weight: above 0.
        languages: whether it wants to know the language of what it reads.
        name: where it came from, for messages.
    """

    model: LanguageModel
    vocab: Vocab
    weight: float
    languages: bool = False
    name: str = "language model"

    def check(self, vocab: Vocab, tags: Sequence[str]) -> None:
        """Raise unless the model can score outputs over ``vocab``.

        Raises:
            StkError: another vocabulary, or a task that writes ``tags`` among the text.
        """
        if vocab.digest != self.vocab.digest:
            raise StkError(
                "its vocabulary is not the one that is written",
                file=self.name,
                mend="train the language model over the translation model's target vocabulary",
            )
        if tags:
            raise StkError(
                f"the task writes {', '.join(tags)} among the text, which no language model reads",
                file=self.name,
                mend="leave --lm out",
            )

    def check_length(self, longest: int, forced: int) -> None:
        """Raise unless the model has a position for every token it may have to read.

        Args:
            longest: tokens that the search may write.
            forced: tokens of text that are forced before these.

        Raises:
            StkError: its positions are learned, and fewer.
        """
        config = self.model.config
        if config.positions == "learned" and 1 + forced + longest > config.max_positions:
            raise StkError(
                f"outputs of up to {forced + longest} tokens do not fit into its "
                f"{config.max_positions} positions",
                file=self.name,
                mend=f"set max_length={config.max_positions - 1 - forced} or less",
            )

    def join(self, scorer: Scorer, examples: Sequence[Example], text: str, silent: int) -> Scorer:
        """The scorer with the language model beside it.

        Args:
            scorer: of the translation models.
            examples: the batch.
            text: field of the examples that is written, for its language.
            silent: tags between the begin symbol and the text; the language model skips them.

        Raises:
            StkError: the model wants a language that an example lacks, or has no tag for it.
        """
        languages = None
        if self.languages:
            ids = [self._language(example, language_field(text)) for example in examples]
            languages = torch.tensor(ids, device=next(self.model.parameters()).device)
        mine = LanguageScorer(
            self.model, len(examples), bos=self.vocab.bos, silent=silent, languages=languages
        )
        return Mixture([(1.0, scorer), (self.weight, mine)])

    def _language(self, example: Example, field: str) -> int:
        language = getattr(example, field)
        if language is None:
            raise StkError(
                f"example {example.id!r} has no {field}, which the language model reads",
                file=example.file,
                row=example.row,
                mend="name it with --target-lang" if field == "tgt_lang" else "add it to the row",
            )
        return language_id(language, self.vocab)


class LanguageScorer:
    """Log-probabilities of a causal language model, which reads the text without its tags.

    Args:
        model: see :class:`Fusion`.
        count: sentences.
        bos: what a text begins with for the language model, whatever the search begins with.
        silent: tags after the begin symbol of every sentence.
        languages: ``(count,)`` int64, or None.
    """

    def __init__(
        self,
        model: LanguageModel,
        count: int,
        *,
        bos: int,
        silent: int = 0,
        languages: Tensor | None = None,
    ) -> None:
        self.model, self.bos, self.silent, self.seen = model, bos, silent, 0
        self.state = model.start(count, languages)
        self.first: Tensor | None = None

    def step(self, tokens: Tensor) -> Tensor:
        """Scores of what follows; after a tag those of the text's beginning."""
        self.seen += 1
        if 1 < self.seen <= self.silent + 1:
            assert self.first is not None
            return self.first.clone()
        if self.seen == 1:
            tokens = torch.full_like(tokens, self.bos)
        logits, self.state = self.model.step(tokens, self.state)
        scores = logits.log_softmax(dim=-1, dtype=torch.float32)
        if self.seen == 1:
            self.first = scores.clone()
        return scores

    def reorder(self, hypotheses: Tensor, sentences: Tensor | None = None) -> None:
        """Reorder the caches. All sentences have as many tags, which are read before any search."""
        self.state = self.state.reorder(hypotheses, sentences)


def load_fusion(
    checkpoint: str | Path, weight: float, *, device: torch.device | str = "cpu"
) -> Fusion | None:
    """Load a language model for fusion; None where the weight is 0, which leaves it out.

    Args:
        checkpoint: a checkpoint or a run's output directory, trained by ``causal_lm``.
        weight: at least 0.
        device: where the model goes.

    Raises:
        StkError: no checkpoint there, not a causal language model, or a negative weight.
    """
    if not 0.0 <= weight < float("inf"):
        raise StkError(f"the language model's weight is {weight}", mend="at least 0, such as 0.1")
    if weight == 0.0:
        return None
    loaded = load_model(checkpoint, device=device)
    objectives = [build_objective(stream.objective) for stream in loaded.config.streams]
    causal = next((o for o in objectives if isinstance(o, CausalLm)), None)
    if causal is None or not isinstance(loaded.model, LanguageModel):
        raise StkError(
            "is no causal language model",
            file=loaded.path,
            mend="train model: {name: language_model} with objective: {name: causal_lm}",
        )
    vocab = loaded.vocabs[causal.config.view]
    return Fusion(loaded.model, vocab, weight, causal.config.languages, str(checkpoint))
