"""From examples to hypotheses: batches by size, encoders, search, input order again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stk.config.run import BatchConfig, DecodeConfig
from stk.data import rng as random
from stk.data.batch import Item, Size
from stk.data.batching import Costs, cut
from stk.data.example import Example
from stk.data.items import make_item
from stk.data.manifest import SkipList
from stk.decoding.beam import beam_search, length_limits
from stk.decoding.ctc_greedy import ctc_greedy
from stk.decoding.ctc_prefix import CtcPrefixScorer
from stk.decoding.fusion import Fusion
from stk.decoding.hypothesis import Hypotheses
from stk.decoding.member import Member, check_together
from stk.decoding.sampling import sample
from stk.decoding.scorers import Ensemble, Mixture, ModelScorer, Scorer
from stk.errors import StkError
from stk.models.outputs import Encoded


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one example.

    Attributes:
        index: its place in the input.
        hypotheses: best first.
        prefix: ids of the text that was forced, tags not counted.
        audio_seconds: length of its sound; None for text.
        batch_seconds: wall time of the batch it was in, from reading sound to the last token.
        batch_size: examples of that batch.
    """

    index: int
    hypotheses: Hypotheses
    prefix: tuple[int, ...]
    audio_seconds: float | None
    batch_seconds: float
    batch_size: int


def decode(
    members: Sequence[Member],
    examples: Sequence[Example],
    config: DecodeConfig,
    *,
    forced: Sequence[str] | None = None,
    skip_bad: SkipList | None = None,
    fusion: Fusion | None = None,
) -> Iterator[Result]:
    """Decode examples batch by batch, longest first; one batch of sound is in memory at a time.

    Args:
        members: one model, or several that share the target vocabulary.
        examples: rows with the task's source field.
        config: of search and batches.
        forced: text that each output has to begin with.
        skip_bad: collects examples that cannot be read instead of raising.
        fusion: a language model that adds to the scores of a beam search.

    Yields:
        Results as batches get done, in no particular order.

    Raises:
        StkError: an example that cannot be read, or a model without the CTC head asked for.
    """
    check_together(members, config)
    check_fusion(members[0], config, fusion)
    sizes: dict[int, Size] = {}
    for index, example in enumerate(examples):
        with _collecting(skip_bad):
            sizes[index] = members[0].source_size(example, config)
    for batch in plan(sizes, config.batch):
        began = time.perf_counter()
        kept, items = _read(members, [(index, examples[index]) for index in batch], skip_bad)
        if not kept:
            continue
        texts = None if forced is None else [forced[index] for index in kept]
        found, prefixes = decode_items(members, items, config, forced=texts, fusion=fusion)
        seconds = time.perf_counter() - began
        for row, index in enumerate(kept):
            yield Result(
                index, found[row], prefixes[row], audio_seconds(members[0], items[0][row]), seconds,
                len(kept),
            )  # fmt: skip


def plan(sizes: dict[int, Size], config: BatchConfig) -> list[list[int]]:
    """Batches of like sizes under the bounds, the longest first; ties keep the input order.

    What exceeds a bound alone becomes a batch of its own: nothing is left out in decoding.
    """
    if not sizes:
        return []
    order = np.array(sorted(sizes, key=lambda i: (-sizes[i].frames, -sizes[i].tokens, i)))
    places = np.arange(len(order))
    costs = Costs(
        frames=np.array([sizes[i].frames for i in order], dtype=np.int32),
        tokens=np.array([sizes[i].tokens for i in order], dtype=np.int32),
        groups=np.zeros(len(order), dtype=np.int32),
    )
    return [order[part].tolist() for part in cut(places, costs, config)]


@torch.inference_mode()
def decode_items(
    members: Sequence[Member],
    items: Sequence[Sequence[Item]],
    config: DecodeConfig,
    *,
    forced: Sequence[str] | None = None,
    fusion: Fusion | None = None,
) -> tuple[list[Hypotheses], list[tuple[int, ...]]]:
    """Search one batch.

    Args:
        members: models that share the target vocabulary.
        items: for each member the batch's examples, with waveforms where it reads sound.
        config: of the search.
        forced: text that each output has to begin with.
        fusion: see :func:`decode`; it has been checked.

    Returns:
        Hypotheses of every example, and the ids of its forced text.

    Raises:
        StkError: ``ctc_weight`` is above 0 and a model has no CTC head over the target vocabulary;
            outputs may be longer than the language model's positions.
    """
    first = members[0]
    encoded = [_encode(member, rows) for member, rows in zip(members, items, strict=True)]
    if config.search == "ctc":
        if any(forced or ()):
            raise StkError("CTC decoding cannot force a prefix", mend="use search: beam")
        assert encoded[0].ctc_logits is not None and encoded[0].ctc_lengths is not None
        greedy = ctc_greedy(encoded[0].ctc_logits, encoded[0].ctc_lengths)
        return [[hypothesis] for hypothesis in greedy], [()] * len(greedy)
    examples = [item.example for item in items[0]]
    vocab = first.vocab(config)
    texts = [tuple(vocab.encode(text)) for text in forced or [""] * len(examples)]
    tags = [tuple(first.objective.prefix_ids(example, first.context)) for example in examples]
    frames = [first.objective.frame_ids(example, first.context) for example in examples]
    scorer = _vote([ModelScorer(m.model, e) for m, e in zip(members, encoded, strict=True)])
    if config.ctc_weight > 0:
        silent = torch.tensor([1 + len(prefix) for prefix in tags], device=first.device)
        heads = [_ctc(m, e, silent, config) for m, e in zip(members, encoded, strict=True)]
        weight = config.ctc_weight
        scorer = Mixture([(1 - weight, scorer), (weight, _vote(heads))])
    limits = length_limits(encoded[0].lengths, config)
    if fusion is not None:
        fusion.check_length(int(limits.max()), max(map(len, texts)))
        scorer = fusion.join(scorer, examples, first.objective.config.target, len(tags[0]))
    asked: dict[str, Any] = {
        "prefixes": [tag + text for tag, text in zip(tags, texts, strict=True)],
        "limits": limits,
        "config": config,
        "symbols": first.symbols(config),
        "frames": frames,
    }
    if config.search == "sample":
        numbers = [(config.seed, random.key_of(example.id)) for example in examples]
        generators = [random.generator(random.SAMPLE, *pair) for pair in numbers]
        return sample(scorer, **asked, generators=generators), texts
    return beam_search(scorer, **asked), texts


def check_fusion(member: Member, config: DecodeConfig, fusion: Fusion | None) -> None:
    """Raise unless a language model, where there is one, can take part in the search.

    Raises:
        StkError: CTC decoding, outputs that do not end with the end symbol, or see
            :meth:`Fusion.check`.
    """
    if fusion is None:
        return
    if config.search != "beam":
        what = "CTC decoding" if config.search == "ctc" else "sampling"
        raise StkError(f"{what} takes no language model", mend="use search: beam")
    vocab = member.vocab(config)
    if member.objective.config.end == "begin":
        raise StkError(
            "its outputs do not end with the end symbol, so a language model cannot score them",
            file=member.name,
            mend="leave --lm out",
        )
    fusion.check(vocab, member.objective.written_tags)


def _vote(scorers: Sequence[Scorer]) -> Scorer:
    return scorers[0] if len(scorers) == 1 else Ensemble(scorers)


def _encode(member: Member, items: Sequence[Item]) -> Encoded:
    source = member.objective.collate_source(items, member.context)
    encoded: Encoded = member.model.encode(source.to(member.device))
    return encoded


def _ctc(member: Member, encoded: Encoded, silent: Tensor, config: DecodeConfig) -> CtcPrefixScorer:
    vocab, task = member.vocab(config), member.objective.config
    if encoded.ctc_logits is None or encoded.ctc_lengths is None:
        raise StkError("has no CTC head", file=member.name, mend="set ctc_weight to 0")
    view = member.model.config.ctc_view
    if member.context.vocabs[view].digest != vocab.digest:
        raise StkError(
            f"its CTC head writes the vocabulary {view!r}, its decoder another",
            file=member.name,
            mend="joint decoding needs one vocabulary for both; set ctc_weight to 0",
        )
    if task.end == "begin":
        raise StkError(
            "its outputs do not end with the end symbol, so a CTC head cannot score them",
            file=member.name,
            mend="set ctc_weight to 0",
        )
    if getattr(task, "ctc_text", task.target) != task.target:
        raise StkError(
            f"its CTC head writes {task.ctc_text}, its decoder {task.target}",
            file=member.name,
            mend="joint decoding needs one text for both; set ctc_weight to 0",
        )
    return CtcPrefixScorer(encoded.ctc_logits, encoded.ctc_lengths, silent=silent, eos=vocab.eos)


def _read(
    members: Sequence[Member], batch: Sequence[tuple[int, Example]], skip_bad: SkipList | None
) -> tuple[list[int], list[list[Item]]]:
    """Items of a batch for every member; sound is read once where their features allow it."""
    kept: list[int] = []
    items: list[list[Item]] = [[] for _ in members]
    for index, example in batch:
        with _collecting(skip_bad):
            read: dict[Any, Item] = {}
            for member in members:
                key = _sound_key(member)
                if key not in read:
                    frontend = member.context.frontend if member.reads_audio else None
                    read[key] = make_item(example, frontend)
            kept.append(index)
            for rows, member in zip(items, members, strict=True):
                rows.append(read[_sound_key(member)])
    return kept, items


def _sound_key(member: Member) -> tuple[int, str] | None:
    if not member.reads_audio or member.context.frontend is None:
        return None
    features = member.context.frontend.config
    return features.sample_rate, features.channel


def audio_seconds(member: Member, item: Item) -> float | None:
    """Length of an item's sound; None for text."""
    if item.waveform is None or member.context.frontend is None:
        return None
    return len(item.waveform) / member.context.frontend.sample_rate


class _collecting:
    """Pass a :class:`StkError` of the block to a skip list, where there is one."""

    def __init__(self, skip_bad: SkipList | None) -> None:
        self.skip_bad = skip_bad

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if self.skip_bad is None or not isinstance(error, StkError):
            return False
        self.skip_bad.add(error)
        return True
