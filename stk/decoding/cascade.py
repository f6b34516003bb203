"""A cascade: one model writes down what is said, another translates the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from stk.data.example import Example
from stk.data.manifest import SkipList
from stk.data.normalise import Normalisation, normalise
from stk.decoding.translator import Candidate, Translation, Translator
from stk.errors import StkError
from stk.objectives.task import TextField


@dataclass(frozen=True, slots=True)
class _Heard:
    """One transcript of one input: as the first model wrote it, and as the second reads it."""

    transcript: str
    bridged: str
    candidate: Candidate


class Cascade:
    """A model of speech whose transcripts a model of text translates.

    All the first translator's ``nbest`` transcripts are translated. Outputs are ranked by the sum
    of both models' scores, and of outputs with one text the best counts; with one transcript that
    is the order of the second model. Transcripts that nothing is left of are not translated; where
    nothing else was heard the translation is empty.

    Args:
        first: transcribes; of a task that writes transcript and translation the transcript is used.
        second: translates text.
        bridge: what becomes of a transcript before the second model reads it.

    Raises:
        StkError: the second model reads no text, the first one does not listen, or one samples.
    """

    def __init__(
        self, first: Translator, second: Translator, *, bridge: Normalisation = "none"
    ) -> None:
        if not first.reads_audio:
            raise StkError("reads text, so nothing is left to transcribe", file=_name(first))
        if second.reads_audio:
            raise StkError(
                "reads sound, but the second model of a cascade reads text", file=_name(second)
            )
        if "sample" in (first.config.search, second.config.search):
            raise StkError("a cascade ranks outputs, so it cannot sample", mend="search: beam")
        self.first, self.second, self.bridge = first, second, bridge

    @property
    def writes(self) -> TextField:
        """The field of a manifest's row that outputs are a version of."""
        return self.second.writes

    def translate(
        self,
        source: str | Path | Tensor | np.ndarray[Any, Any],
        *,
        sample_rate: int | None = None,
        source_lang: str | None = None,
        target_lang: str | None = None,
    ) -> Translation:
        """Translate one sound file or waveform; see :meth:`Translator.translate`.

        Raises:
            StkError: as there.
        """
        heard = self.first.translate(
            source, sample_rate=sample_rate, source_lang=source_lang, target_lang=target_lang
        )
        example = Example(id=heard.id, src_lang=source_lang, tgt_lang=target_lang)
        ((_, found),) = self._translate([example], {0: heard}, None)
        return found

    def translate_examples(
        self, examples: Sequence[Example], *, skip_bad: SkipList | None = None
    ) -> list[Translation]:
        """Translate manifest rows and return results in the order of the input.

        Args:
            examples: rows with sound.
            skip_bad: collects rows that cannot be read instead of raising; they are left out.
        """
        found = dict(self.stream(examples, skip_bad=skip_bad))
        return [found[index] for index in sorted(found)]

    def stream(
        self, examples: Sequence[Example], *, skip_bad: SkipList | None = None
    ) -> Iterator[tuple[int, Translation]]:
        """Yield ``(index in examples, translation)``, once everything was transcribed."""
        heard = dict(self.first.stream(examples, skip_bad=skip_bad))
        return self._translate(examples, heard, skip_bad)

    def _translate(
        self, examples: Sequence[Example], heard: dict[int, Translation], skip_bad: SkipList | None
    ) -> Iterator[tuple[int, Translation]]:
        """Translate the transcripts of each input; an input is done with its last transcript."""
        field = self.second.members[0].objective.config.source
        rows, owners = [], []
        waiting: dict[int, int] = {}
        for index in sorted(heard):
            chosen = self._transcripts(heard[index])
            waiting[index] = sum(bool(one.bridged) for one in chosen)
            if waiting[index] == 0:
                yield index, _silent(heard[index], chosen[0])
            for one in chosen:
                if one.bridged:
                    bridged: Any = {field: one.bridged}
                    rows.append(replace(examples[index], audio=None, **bridged))
                    owners.append((index, one))
        parts: dict[int, list[tuple[_Heard, Translation]]] = {}
        for place, said in self.second.stream(rows, skip_bad=skip_bad):
            index, one = owners[place]
            parts.setdefault(index, []).append((one, said))
            if len(parts[index]) == waiting[index]:
                yield index, self._joined(heard[index], parts.pop(index))

    def _transcripts(self, heard: Translation) -> list[_Heard]:
        """Distinct transcripts, best first; empty ones only where there is nothing else."""
        found: dict[str, _Heard] = {}
        for candidate in heard.nbest:
            text = candidate.text if candidate.transcript is None else candidate.transcript
            bridged = normalise(text, self.bridge)
            found.setdefault(bridged, _Heard(text, bridged, candidate))
        return [one for one in found.values() if one.bridged] or list(found.values())

    def _joined(
        self, heard: Translation, parts: Sequence[tuple[_Heard, Translation]]
    ) -> Translation:
        pairs = [
            Candidate(
                text=said.text,
                score=one.candidate.score + said.score,
                log_prob=one.candidate.log_prob + said.log_prob,
                tokens=said.tokens,
                transcript=one.transcript,
            )
            for one, translation in parts
            for said in translation.nbest
        ]
        best: dict[str, Candidate] = {}
        for pair in sorted(pairs, key=lambda pair: (-pair.score, pair.transcript, pair.text)):
            best.setdefault(pair.text, pair)
        nbest = tuple(best.values())[: self.second.config.nbest]
        return replace(
            heard,
            text=nbest[0].text,
            score=nbest[0].score,
            nbest=nbest,
            batch_seconds=heard.batch_seconds + max(said.batch_seconds for _, said in parts),
            transcript=nbest[0].transcript,
            separated=None,
        )


def _silent(heard: Translation, one: _Heard) -> Translation:
    """An empty translation of an empty transcript."""
    candidate = Candidate(
        text="",
        score=one.candidate.score,
        log_prob=one.candidate.log_prob,
        tokens=(),
        transcript=one.transcript,
    )
    return replace(
        heard,
        text="",
        score=candidate.score,
        nbest=(candidate,),
        transcript=one.transcript,
        separated=None,
    )


def _name(translator: Translator) -> str:
    return translator.members[0].name
