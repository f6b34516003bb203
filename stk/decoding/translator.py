"""Translation from Python: ``stk.load(DIR).translate("hello.wav")``."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stk.config.run import DecodeConfig
from stk.config.strict import build, to_plain
from stk.data.audio import resample
from stk.data.batch import Item
from stk.data.example import Example
from stk.data.items import make_item
from stk.data.manifest import SkipList
from stk.decoding.decode import Result, audio_seconds, check_fusion, decode, decode_items
from stk.decoding.fusion import Fusion, load_fusion
from stk.decoding.member import Member, check_together, load_member
from stk.errors import StkError
from stk.objectives.task import TextField


@dataclass(frozen=True, slots=True)
class Candidate:
    """One output: its text, and the figures of :class:`stk.decoding.hypothesis.Hypothesis`.

    ``transcript`` and ``separated`` are those of :class:`stk.objectives.sequence.Written`: what was
    heard, where the output says it too, and whether the tag between the two was written.
    """

    text: str
    score: float
    log_prob: float
    tokens: tuple[int, ...]
    transcript: str | None = None
    separated: bool | None = None


@dataclass(frozen=True, slots=True)
class Translation:
    """What :class:`Translator` returns for one input.

    Attributes:
        id: the example's.
        text: the best output (a forced prefix included).
        score: what outputs are ranked by, at most 0.
        nbest: the best outputs, best first; the first is ``text``.
        audio_seconds: length of the sound read; None for text.
        batch_seconds: wall time of the batch this input was in.
        batch_size: inputs of that batch.
        transcript: what was heard, of the best output, where the task or a cascade writes it;
            else None.
        separated: of the best output, whether a task that writes transcript and translation wrote
            the tag between them (if not, ``text`` is empty); None for other tasks.
    """

    id: str
    text: str
    score: float
    nbest: tuple[Candidate, ...]
    audio_seconds: float | None
    batch_seconds: float
    batch_size: int
    transcript: str | None = None
    separated: bool | None = None

    def __str__(self) -> str:
        return self.text


class Translator:
    """Models, their task and search options. Made by :func:`load`.

    Args:
        members: one model, or an ensemble over one target vocabulary.
        config: of the search.
        fusion: a language model that adds to the scores.

    Raises:
        StkError: the members and the language model do not fit together.
    """

    def __init__(
        self,
        members: Sequence[Member],
        config: DecodeConfig | None = None,
        fusion: Fusion | None = None,
    ) -> None:
        self.members, self.fusion = tuple(members), fusion
        self.config = config or DecodeConfig()
        check_together(self.members, self.config)
        check_fusion(self.members[0], self.config, fusion)

    @property
    def reads_audio(self) -> bool:
        """Whether the source is sound; text otherwise."""
        return self.members[0].reads_audio

    @property
    def writes(self) -> TextField:
        """The field of a manifest's row that outputs are a version of."""
        config = self.members[0].objective.config
        field: TextField = config.ctc_text if self.config.search == "ctc" else config.target
        return field

    def translate(
        self,
        source: str | Path | Tensor | np.ndarray[Any, Any],
        *,
        sample_rate: int | None = None,
        source_lang: str | None = None,
        target_lang: str | None = None,
        prefix: str = "",
        **options: Any,
    ) -> Translation:
        """Translate (or transcribe, as the task says) one input.

        Args:
            source: for models of speech a sound file (WAV, FLAC, OGG, AIFF, MP3; any rate and
                channels) or a waveform, ``(N,)`` or ``(channels, N)`` in [-1, 1]; for models of
                text a sentence.
            sample_rate: of a waveform, in Hz; needed with one.
            source_lang: ISO 639 code, where the task's tag is the source language.
            target_lang: ISO 639 code, where the task's tag is the target language.
            prefix: text that the output has to begin with.
            options: keys of :class:`~stk.config.run.DecodeConfig` for this call alone.

        Raises:
            StkError: a source that cannot be read or does not suit the model, an unknown
                language tag, a wrong option.
        """
        config = self._with(options)
        example = Example(id="input", src_lang=source_lang, tgt_lang=target_lang)
        if isinstance(source, (Tensor, np.ndarray)):
            began = time.perf_counter()
            items = self._of_waveform(example, source, sample_rate)
            check_fusion(self.members[0], config, self.fusion)
            found, prefixes = decode_items(
                self.members, items, config, forced=[prefix], fusion=self.fusion
            )
            heard = audio_seconds(self.members[0], items[0][0])
            spent = time.perf_counter() - began
            result = Result(0, found[0], prefixes[0], heard, spent, batch_size=1)
            return self._translation(result, example, config)
        field = self.members[0].objective.config.source
        value: Any = Path(source) if self.reads_audio else str(source)
        example = dataclasses.replace(example, **{field: value})
        result = next(decode(self.members, [example], config, forced=[prefix], fusion=self.fusion))
        return self._translation(result, example, config)

    def translate_examples(
        self, examples: Sequence[Example], *, skip_bad: SkipList | None = None
    ) -> list[Translation]:
        """Translate manifest rows, in batches, and return results in the order of the input.

        Args:
            examples: rows with the task's source field.
            skip_bad: collects rows that cannot be read instead of raising; they are left out.
        """
        found = dict(self.stream(examples, skip_bad=skip_bad))
        return [found[index] for index in sorted(found)]

    def stream(
        self, examples: Sequence[Example], *, skip_bad: SkipList | None = None
    ) -> Iterator[tuple[int, Translation]]:
        """Yield ``(index in examples, translation)`` as batches get done, longest inputs first."""
        for result in decode(
            self.members, examples, self.config, skip_bad=skip_bad, fusion=self.fusion
        ):
            example = examples[result.index]
            yield result.index, self._translation(result, example, self.config)

    def _with(self, options: dict[str, Any]) -> DecodeConfig:
        if not options:
            return self.config
        return build(DecodeConfig, {**to_plain(self.config), **options}, where="decode")

    def _of_waveform(
        self, example: Example, waveform: Any, sample_rate: int | None
    ) -> list[list[Item]]:
        if not self.reads_audio:
            raise StkError("this model translates text, not sound", mend="give it a sentence")
        if sample_rate is None or sample_rate <= 0:
            raise StkError("a waveform needs its sample_rate in Hz")
        samples = torch.as_tensor(waveform).detach().cpu().to(torch.float32)
        if samples.dim() == 2:
            samples = samples.mean(dim=0)
        if samples.dim() != 1 or samples.numel() == 0 or not bool(samples.isfinite().all()):
            shape = tuple(torch.as_tensor(waveform).shape)
            raise StkError(f"expected finite samples (N,) or (channels, N), found shape {shape}")
        items = []
        for member in self.members:
            frontend = member.context.frontend
            assert frontend is not None
            at_rate = torch.from_numpy(resample(samples.numpy(), sample_rate, frontend.sample_rate))
            item = make_item(example, None)
            items.append([dataclasses.replace(item, waveform=at_rate)])
        return items

    def _translation(self, result: Result, example: Example, config: DecodeConfig) -> Translation:
        nbest = []
        for h in result.hypotheses:
            written = self.members[0].read([*result.prefix, *h.tokens], config)
            nbest.append(
                Candidate(
                    text=written.text,
                    score=h.score,
                    log_prob=h.log_prob,
                    tokens=h.tokens,
                    transcript=written.transcript,
                    separated=written.separated,
                )
            )
        return Translation(
            id=example.id,
            text=nbest[0].text,
            score=nbest[0].score,
            nbest=tuple(nbest),
            audio_seconds=result.audio_seconds,
            batch_seconds=result.batch_seconds,
            batch_size=result.batch_size,
            transcript=nbest[0].transcript,
            separated=nbest[0].separated,
        )


def load(
    *checkpoints: str | Path,
    task: str | None = None,
    device: torch.device | str | None = None,
    lm: str | Path | None = None,
    lm_weight: float = 0.1,
    **options: Any,
) -> Translator:
    """Load one checkpoint, or several as an ensemble.

    Args:
        checkpoints: checkpoint directories, or output directories of runs (their best is taken).
        task: name of the training stream whose task is decoded; None: the first.
        device: None: a GPU if there is one, else the CPU.
        lm: checkpoint of a causal language model over the target vocabulary, for shallow fusion.
        lm_weight: what its log-probabilities are multiplied by; 0 leaves it out.
        options: keys of :class:`~stk.config.run.DecodeConfig`.

    Raises:
        StkError: see :func:`stk.decoding.member.load_member`; a wrong option; no such device.
    """
    config = build(DecodeConfig, options, where="decode")
    if config.search == "sample" and "beam" in options:
        raise StkError("sampling has no beam", mend="leave beam out; nbest outputs are drawn")
    place = _device(device)
    members = [load_member(c, task=task, device=place) for c in checkpoints]
    fusion = None if lm is None else load_fusion(lm, lm_weight, device=place)
    return Translator(members, config, fusion)


def _device(name: torch.device | str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise StkError(f"device {name!r} cannot be used: {first}", mend="try cpu") from None
    return device
