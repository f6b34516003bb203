"""What ``stk-train`` hands to training: decoding for validation, and for objectives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from stk.config.run import DecodeConfig, RunConfig
from stk.data.batch import Source
from stk.data.example import Example
from stk.data.manifest import read_manifest
from stk.data.vocab import Vocab, load_vocab
from stk.decoding.beam import beam_search, length_limits
from stk.decoding.decode import decode
from stk.decoding.member import Member
from stk.decoding.scorers import ModelScorer
from stk.decoding.shard import take_shard
from stk.errors import StkError
from stk.features.frontend import FrontEnd
from stk.objectives.base import CollateContext
from stk.objectives.registry import build_objective
from stk.scoring.bleu import bleu
from stk.scoring.chrf import chrf
from stk.scoring.wer import wer
from stk.training.assemble import Generate
from stk.training.distributed import Workers
from stk.training.validation import Scorer


def judge(config: RunConfig) -> Scorer | None:
    """A callable that decodes ``validation.decode_manifest`` with the first stream's task.

    It returns ``bleu``, ``chrf`` and ``wer`` in percent; every process decodes its share. None
    where the run has no such manifest.

    Raises:
        StkError: the manifest is bad, or rows lack the reference.
    """
    if config.validation.decode_manifest is None:
        return None
    vocabs = {view: load_vocab(path) for view, path in config.vocabularies.items()}
    frontend = None if config.features is None else FrontEnd(config.features)
    context = CollateContext(vocabs=vocabs, frontend=frontend, training=False)
    objective: Any = build_objective(config.streams[0].objective)
    examples = read_manifest(config.validation.decode_manifest)
    examples = examples[: config.validation.decode_examples]
    field = getattr(objective.config, "target", None) or objective.config.ctc_text
    references = [_reference(example, field) for example in examples]
    first = examples[0]
    lang = first.tgt_lang if field == "tgt_text" else first.src_lang
    search = config.validation.decode

    def score(model: nn.Module, workers: Workers) -> Mapping[str, float]:
        member = Member(model, objective, context, config.output)
        own = take_shard(list(enumerate(examples)), workers.rank + 1, workers.world)
        found = _texts(member, [example for _, example in own], search)
        texts = dict(zip([index for index, _ in own], found, strict=True))
        merged = {index: text for part in workers.gather(texts) for index, text in part.items()}
        hypotheses = [merged[index] for index in range(len(examples))]
        return {
            "bleu": bleu(hypotheses, references, lang).value,
            "chrf": chrf(hypotheses, references).value,
            "wer": wer(hypotheses, references).value,
        }

    return score


def _reference(example: Example, field: str) -> str:
    text = getattr(example, field)
    if text is None:
        raise StkError(f"example {example.id!r} lacks {field}", file=example.file, row=example.row)
    return str(text)


def _texts(member: Member, examples: Sequence[Example], search: DecodeConfig) -> list[str]:
    results = decode([member], examples, search)
    found = {
        result.index: member.read(result.hypotheses[0].tokens, search).text for result in results
    }
    return [found[index] for index in range(len(examples))]


def generator(config: RunConfig) -> Generate:
    """Greedy output of the model in training, for ``context.generate``.

    The callable takes ``(model, source, prefixes, *, limits, frames, banned)``: a
    :class:`~stk.data.batch.Source` on the model's device; for every row the ids forced at the start
    of its output (None: none); ``(B,)`` int64, the most tokens written after them, 512 at most
    (None: 50 more than are read); for every row its begin and end symbol (None: bos and eos); and
    ids that are never written but as these. It returns ids without begin, prefix and end.
    """
    search = DecodeConfig(beam=1)
    vocabs: dict[str, Vocab] = {}

    def generate(
        model: Any,
        source: Source,
        prefixes: Sequence[Sequence[int]] | None = None,
        *,
        limits: Tensor | None = None,
        frames: Sequence[tuple[int, int]] | None = None,
        banned: Sequence[int] = (),
    ) -> list[list[int]]:
        view = model.config.target_view
        if view not in vocabs:
            vocabs[view] = load_vocab(config.vocabularies[view])
        context = CollateContext(vocabs=vocabs, training=False)
        objective: Any = build_objective({"name": "cross_entropy", "target_view": view})
        symbols = Member(model, objective, context).symbols(search)
        encoded = model.encode(source)
        if limits is None:
            limits = length_limits(encoded.lengths, search)
        found = beam_search(
            ModelScorer(model, encoded),
            prefixes=prefixes or [()] * len(source.lengths),
            limits=limits.clamp(max=search.max_length),
            config=search,
            symbols=dataclasses.replace(symbols, forbidden=(*symbols.forbidden, *banned)),
            frames=frames,
        )
        return [list(hypotheses[0].tokens) for hypotheses in found]

    return generate
