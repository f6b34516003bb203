"""BERT features of texts from a masked language model that stk trained itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from stk.data.batch import Padded, Source
from stk.data.bert_features import Track, check_length, write_features
from stk.data.example import Example
from stk.data.vocab import Vocab
from stk.errors import StkError
from stk.models.language_model import LanguageModel
from stk.training.checkpoint import WEIGHTS, load_model
from stk.training.tensors import weights_digest


def write_own_bert_features(
    checkpoint: str | Path,
    examples: Sequence[Example],
    out: str | Path,
    *,
    field: str = "src_text",
    pooled: bool = False,
    batch: int = 32,
    device: torch.device | str = "cpu",
    track: Track = iter,
) -> int:
    """Run a masked language model over a text of every example; write the states of its stack.

    The text is read as in training, ``bos pieces eos``. A row has ``states (S, W)`` fp16, one
    vector a piece, or with ``pooled`` ``(1, W)``, the vector of bos; and ``text (16,)`` uint8.

    Args:
        checkpoint: of the model ``language_model``; a run's directory or one checkpoint.
        examples: rows with ``field``.
        out: directory to write.
        field: ``src_text`` or ``tgt_text``.
        pooled: one vector a sentence.
        batch: sentences at once.
        device: where the model runs.
        track: shows progress over batches.

    Returns:
        Rows written.

    Raises:
        StkError: no such checkpoint, one of another model, or one with language embeddings; a row
            without text, or one longer than the model's positions.
    """
    loaded = load_model(checkpoint, device)
    model = loaded.model
    if not isinstance(model, LanguageModel):
        raise StkError("is no language model", file=loaded.path, mend="train one with masked_lm")
    if model.config.languages:
        raise StkError("wants the language of every text", file=loaded.path, mend="languages: 0")
    vocab = loaded.vocabs[model.config.view]
    return write_features(
        out,
        examples,
        partial(_features, model, vocab, torch.device(device), pooled),
        weights=weights_digest(loaded.path / WEIGHTS),
        field=field,
        pooled=pooled,
        batch=batch,
        track=track,
    )


@torch.inference_mode()
def _features(
    model: LanguageModel,
    vocab: Vocab,
    device: torch.device,
    pooled: bool,
    rows: Sequence[Example],
    texts: Sequence[str],
) -> list[Tensor]:
    """``(S, W)`` of every text, on the CPU."""
    ids = [[vocab.bos, *vocab.encode(text), vocab.eos] for text in texts]
    if model.config.positions == "learned":
        for row, one in zip(rows, ids, strict=True):
            check_length(row, len(one), model.config.max_positions)
    padded = Padded.stack(ids)
    source = Source(padded.data.to(device), padded.lengths.to(device))
    states = model.encode(source).states.float().cpu()
    if pooled:
        return list(states[:, :1])
    return [states[i, 1 : len(one) - 1] for i, one in enumerate(ids)]
