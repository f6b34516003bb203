"""BERT features of texts, from a local Hugging Face directory to a sidecar."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stk.data.bert_features import Track, check_length, write_features
from stk.data.example import Example
from stk.errors import StkError


def write_bert_features(
    directory: str | Path,
    examples: Sequence[Example],
    out: str | Path,
    *,
    field: str = "src_text",
    pooled: bool = False,
    batch: int = 32,
    device: torch.device | str = "cpu",
    track: Track = iter,
) -> int:
    """Run a BERT over a text of every example and write what the last layer says.

    A row has ``states (S, W)`` fp16, one vector a piece (those of the special tokens left out), or
    with ``pooled`` ``(1, W)``, the vector of the first, the class token; and ``text (16,)`` uint8.

    Args:
        directory: model and tokenizer as ``save_pretrained`` writes them; nothing is downloaded.
        examples: rows with ``field``.
        out: directory to write.
        field: ``src_text`` or ``tgt_text``.
        pooled: one vector a sentence.
        batch: sentences at once.
        device: where BERT runs.
        track: shows progress over batches.

    Returns:
        Rows written.

    Raises:
        StkError: no such model, a row without text, or one longer than the model's positions.
    """
    model, tokenizer = _load(Path(directory), device)
    return write_features(
        out,
        examples,
        partial(_features, model, tokenizer, pooled),
        weights=_digest(Path(directory)),
        field=field,
        pooled=pooled,
        batch=batch,
        track=track,
    )


def _load(directory: Path, device: torch.device | str) -> tuple[Any, Any]:
    if not (directory / "config.json").is_file():
        raise StkError("no Hugging Face model here: config.json is missing", file=directory)
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise StkError("transformers is not installed", mend="pip install stk[interop]") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
        model = AutoModel.from_pretrained(str(directory), local_files_only=True)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise StkError(f"not a whole Hugging Face model: {first}", file=directory) from None
    return model.to(device).eval(), tokenizer


def _digest(directory: Path) -> str:
    """Of every file of the model: weights, sizes and pieces all matter."""
    content = hashlib.sha256()
    for path in sorted(path for path in directory.iterdir() if path.is_file()):
        with open(path, "rb") as file:
            content.update(f"{path.name} ".encode())
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()


@torch.inference_mode()
def _features(
    model: Any, tokenizer: Any, pooled: bool, rows: Sequence[Example], texts: Sequence[str]
) -> list[torch.Tensor]:
    """``(S, W)`` of every text, on the CPU."""
    asked = tokenizer(
        list(texts), padding=True, return_tensors="pt", return_special_tokens_mask=True
    )
    special = asked.pop("special_tokens_mask").bool()
    lengths, limit = asked["attention_mask"].sum(1), model.config.max_position_embeddings
    longest = int(lengths.argmax())
    check_length(rows[longest], int(lengths[longest]), limit)
    states = model(**asked.to(model.device)).last_hidden_state.float().cpu()
    if pooled:
        return list(states[:, :1])
    kept = asked["attention_mask"].bool().cpu() & ~special
    return [states[i, kept[i]] for i in range(len(texts))]
