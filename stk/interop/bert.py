"""BERT features of texts, from a local Hugging Face directory to a sidecar."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from stk.data.bert_features import KIND, text_digest
from stk.data.example import Example
from stk.data.sidecar import SidecarWriter, made_by
from stk.errors import StkError

Track = Callable[[Sequence[int]], Iterable[int]]


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
    parts = {"kind": KIND, "text": field, "pooled": pooled, "weights": _digest(Path(directory))}
    with SidecarWriter(out, made_by(**parts), parts) as writer:
        for begin in track(range(0, len(examples), batch)):
            rows = examples[begin : begin + batch]
            texts = [_text(example, field) for example in rows]
            found = _features(model, tokenizer, rows, texts, pooled)
            for example, text, states in zip(rows, texts, found, strict=True):
                writer.add(example.id, {"states": states.half(), "text": text_digest(text)})
    return len(examples)


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


def _text(example: Example, field: str) -> str:
    text = getattr(example, field)
    if text is None or not text.strip():
        raise StkError(f"example {example.id!r} has no {field}", file=example.file, row=example.row)
    return str(text)


@torch.inference_mode()
def _features(
    model: Any, tokenizer: Any, rows: Sequence[Example], texts: Sequence[str], pooled: bool
) -> list[torch.Tensor]:
    """``(S, W)`` of every text, on the CPU."""
    asked = tokenizer(
        list(texts), padding=True, return_tensors="pt", return_special_tokens_mask=True
    )
    special = asked.pop("special_tokens_mask").bool()
    lengths, limit = asked["attention_mask"].sum(1), model.config.max_position_embeddings
    if int(lengths.max()) > limit:
        row = rows[int(lengths.argmax())]
        raise StkError(
            f"example {row.id!r} has {int(lengths.max())} pieces, BERT reads at most {limit}",
            file=row.file,
            row=row.row,
            mend="drop the row",
        )
    states = model(**asked.to(model.device)).last_hidden_state.float().cpu()
    if pooled:
        return list(states[:, :1])
    kept = asked["attention_mask"].bool().cpu() & ~special
    return [states[i, kept[i]] for i in range(len(texts))]
