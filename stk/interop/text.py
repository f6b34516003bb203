"""BERT, XLM-R, mBART and Marian of transformers, read into stk's text models.

Weights come from local files alone. Ids are put into stk's order, so embeddings are too; every
other tensor is copied as it is. A key that is not understood is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stk.data.vocab import Vocab
from stk.errors import StkError
from stk.interop.checkpoint import save_imported
from stk.interop.names import Names
from stk.interop.state import read_json, read_state
from stk.interop.text_config import (
    check_fixed,
    encoder_keys,
    translation_keys,
    translation_objective,
)
from stk.interop.text_names import (
    ALIASES,
    HEAD_BIAS,
    LEFT,
    encoder_names,
    head_names,
    translation_names,
)
from stk.interop.text_vocab import Named, bert_vocab, fairseq_vocab, marian_vocab
from stk.models.registry import build_model
from stk.modules.positions import sinusoids

KINDS = ("bert", "xlm-roberta", "mbart", "marian")
"""``model_type`` of configurations that can be read."""

NEVER = -100.0
"""Bias of what the other library's model cannot write: too low to be, and harmless in a mean."""


@dataclass(frozen=True)
class ImportedText:
    """A text model of another library in stk's terms.

    Attributes:
        model: the section ``model`` of a configuration.
        weights: by stk's names.
        names: view -> vocabulary with the ids it has there.
        objective: what the model was trained to do.
        absent: prefixes of what the file does not hold, and stays as initialised.
        left: keys of the file that have no use here.
        file: where it was read.
    """

    model: dict[str, Any]
    weights: dict[str, Tensor]
    names: dict[str, Named]
    objective: dict[str, Any]
    absent: tuple[str, ...]
    left: tuple[str, ...]
    file: Path

    @property
    def vocabs(self) -> dict[str, Vocab]:
        """View -> vocabulary."""
        return {view: named.vocab for view, named in self.names.items()}

    def build(self) -> nn.Module:
        """A model with these weights, in evaluation mode.

        Raises:
            StkError: a tensor is of another shape than the configuration says.
        """
        sizes = {view: len(vocab) for view, vocab in self.vocabs.items()}
        model = build_model(self.model, sizes)
        own = model.state_dict()
        other = sorted(n for n, t in self.weights.items() if n in own and own[n].shape != t.shape)
        if other:
            raise StkError(f"of another shape than configured: {', '.join(other)}", file=self.file)
        missing, extra = model.load_state_dict(self.weights, strict=False)
        left = [name for name in missing if not name.startswith(self.absent or ("\0",))]
        assert not extra and not left, (extra, left)  # names were checked on reading
        return model.eval()

    def save(self, directory: str | Path) -> None:
        """Write a checkpoint that ``stk-decode``, ``init_from`` and ``stk-train`` take.

        Raises:
            StkError: the directory exists, or cannot be written.
        """
        save_imported(
            self.build(),
            directory,
            model_keys=self.model,
            objective=self.objective,
            vocabs=self.vocabs,
            source=self.file,
        )


def read_text_model(
    directory: str | Path,
    *,
    languages: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> ImportedText:
    """Read a model as ``save_pretrained`` writes it, with its tokenizer's files beside it.

    BERT needs ``vocab.txt`` or ``tokenizer.json``, XLM-R and mBART ``sentencepiece.bpe.model``,
    Marian ``source.spm``, ``target.spm`` and ``vocab.json``. Of BERT the first segment's vector is
    part of the positions, and the second segment's is left behind.

    Args:
        directory: of the model.
        languages: mBART's language codes in the order of their ids, where their number (25, or
            52 of mBART-50) does not tell them.
        tags: language code there -> tag here; else what stands before ``_``.

    Raises:
        StkError: a file is missing, a configuration that the models here cannot have, keys that
            are not understood, missing or of another shape, a language that is not there.
    """
    directory = Path(directory)
    config = read_json(directory / "config.json")
    kind = config.get("model_type")
    where = directory / "config.json"
    if kind not in KINDS:
        raise StkError(f"model_type is {kind!r}", file=where, mend=f"known: {', '.join(KINDS)}")
    check_fixed(config, where)
    theirs, file = read_state(directory)
    reader = _Reader(theirs, kind, file)
    if kind in ("mbart", "marian"):
        return _translation(reader, config, directory, languages, tags or {})
    return _encoder(reader, config, directory)


class _Reader:
    """Takes tensors out of a state dictionary, so that in the end nothing may be left."""

    def __init__(self, state: Mapping[str, Tensor], kind: str, file: Path) -> None:
        outer = {"bert": "bert.", "xlm-roberta": "roberta."}.get(kind, "model.")
        self.state = {key.removeprefix(outer): tensor for key, tensor in state.items()}
        self.kind, self.file = kind, file
        self.missing: list[str] = []
        self.weights: dict[str, Tensor] = {}

    def has(self, name: str) -> bool:
        return name in self.state

    def take(self, name: str) -> Tensor:
        """One tensor; one that is missing is noted."""
        if name not in self.state:
            self.missing.append(name)
            return torch.zeros(0)
        return self.state.pop(name)

    def copy(self, names: Sequence[Names]) -> None:
        """Tensors that are copied as they are, or joined."""
        for mine, parts in names:
            found = [self.take(part) for part in parts]
            if not any(len(tensor) == 0 for tensor in found):
                self.weights[mine] = torch.cat(found)

    def drop_twins(self, twins: Mapping[str, str]) -> None:
        """Leave one name to tensors that are tied: that of the value.

        Raises:
            StkError: the two differ.
        """
        for name, first in twins.items():
            if name in self.state and first not in self.state:
                self.state[first] = self.state.pop(name)
            elif name in self.state:
                if not torch.equal(self.state[name], self.state[first]):
                    raise StkError(f"{name} differs from {first}, though tied", file=self.file)
                del self.state[name]

    def finish(self, left: Sequence[str] = ()) -> tuple[str, ...]:
        """Names left behind, all of which begin with one of ``left``.

        Raises:
            StkError: keys are missing, or left that are not understood.
        """
        behind = tuple(sorted(k for k in self.state if k.startswith(tuple(left) or ("\0",))))
        unknown = sorted(set(self.state) - set(behind))
        if unknown or self.missing:
            raise StkError(
                f"keys not understood: {', '.join(unknown) or 'none'}; missing: "
                f"{', '.join(self.missing) or 'none'}",
                file=self.file,
                mend="save the model with save_pretrained, with no head but its own",
            )
        return behind


def _rows(table: Tensor, named: Named) -> Tensor:
    """Rows of a table by stk's ids; zero where they have none."""
    found = table[named.theirs.clamp(min=0)]
    return torch.where((named.theirs >= 0)[:, None], found, torch.zeros(())).contiguous()


def _bias(bias: Tensor, named: Named) -> Tensor:
    """A bias per token by stk's ids; what cannot be written gets :data:`NEVER`."""
    out = torch.where(named.theirs >= 0, bias.flatten()[named.theirs.clamp(min=0)], NEVER)
    out[torch.tensor(named.read_only, dtype=torch.int64)] = NEVER
    return out


def _encoder(reader: _Reader, config: Mapping[str, Any], directory: Path) -> ImportedText:
    kind, keys = reader.kind, encoder_keys(config, directory / "config.json")
    reader.drop_twins(ALIASES[kind])
    if kind == "bert":
        named = bert_vocab(directory, config["vocab_size"])
    else:
        named = fairseq_vocab(directory, config["vocab_size"], (), {})
    table = reader.take("embeddings.word_embeddings.weight")
    positions = reader.take("embeddings.position_embeddings.weight")
    segments = reader.take("embeddings.token_type_embeddings.weight")
    reader.copy(encoder_names(kind, keys["layers"]))
    absent: tuple[str, ...] = ()
    bias = torch.zeros(config["vocab_size"])
    if reader.has(HEAD_BIAS[kind]):
        reader.copy(head_names(kind))
        bias = reader.take(HEAD_BIAS[kind])
    else:
        absent = ("head.dense.", "head.norm.")
    left = reader.finish(LEFT)
    first = config["max_position_embeddings"] - keys["max_positions"]
    reader.weights |= {
        "encoder.embedding.weight": _rows(table, named),
        "encoder.positions.weight": positions[first:] + segments[0],
        "head.bias": _bias(bias, named),
    }
    return ImportedText(
        model=keys,
        weights=reader.weights,
        names={"src": named},
        objective={"name": "masked_lm"},
        absent=absent,
        left=left,
        file=reader.file,
    )


def _translation(
    reader: _Reader,
    config: Mapping[str, Any],
    directory: Path,
    languages: Sequence[str] | None,
    tags: Mapping[str, str],
) -> ImportedText:
    keys = translation_keys(config, directory / "config.json")
    mbart, size = reader.kind == "mbart", config["vocab_size"]
    shared = config.get("share_encoder_decoder_embeddings", True)
    tied = config.get("tie_word_embeddings", True)
    keys["tie"] = "all" if shared and tied else "decoder" if tied else "none"
    if mbart:
        source = target = fairseq_vocab(directory, size, languages, tags)
    else:
        other = size if shared else config.get("decoder_vocab_size") or size
        source = marian_vocab(directory, size, config, "source", tags)
        target = marian_vocab(directory, other, config, "target", tags)
    tables = _tables(reader, shared, tied)
    _positions(reader, mbart, keys)
    bias = torch.zeros(len(tables[1]))
    if reader.has("final_logits_bias"):
        bias = reader.take("final_logits_bias")
    reader.copy(translation_names((keys["encoder_layers"], keys["decoder_layers"]), mbart=mbart))
    reader.finish()
    weights, mine = reader.weights, _bias(bias, target)
    weights["encoder.embedding.weight"] = _rows(tables[0], source)
    weights["decoder.embedding.weight"] = _rows(tables[1], target)
    if not tied:
        weights["decoder.output.weight"] = _rows(tables[2], target)
        weights["decoder.output.bias"] = mine
    elif bool(mine.any()):
        keys["output_bias"] = True
        weights["decoder.output_bias"] = mine
    return ImportedText(
        model=keys,
        weights=weights,
        names={"src": source, "tgt": target},
        objective=translation_objective(config, len(target.vocab.tags)),
        absent=(),
        left=(),
        file=reader.file,
    )


_EMBEDDINGS = ("encoder.embed_tokens", "decoder.embed_tokens")


def _tables(reader: _Reader, shared: bool, tied: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of encoder and decoder, and the matrix of logits."""
    one, first, second = (f"{n}.weight" for n in ("shared", *_EMBEDDINGS))
    if shared:
        reader.drop_twins({first: one, second: one})
    if tied:
        reader.drop_twins({"lm_head.weight": one if shared else second})
    if shared:
        encoder = decoder = reader.take(one)
    else:
        encoder, decoder = reader.take(first), reader.take(second)
    return encoder, decoder, decoder if tied else reader.take("lm_head.weight")


def _positions(reader: _Reader, mbart: bool, keys: Mapping[str, Any]) -> None:
    """Learned positions, which begin with two unused ones; Marian's are computed."""
    for side in ("encoder", "decoder"):
        name = f"{side}.embed_positions.weight"
        if mbart:
            reader.weights[f"{side}.positions.weight"] = reader.take(name)[2:]
        elif reader.has(name):
            table = reader.take(name)
            if not torch.allclose(table, sinusoids(*table.shape, exact=True), atol=1e-4):
                raise StkError(f"{name} is not sinusoidal", file=reader.file)
