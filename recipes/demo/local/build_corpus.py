"""Write the demo corpus: phrases, their sound in many voices, and a manifest for each set."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import corpus
import espeak
import soundfile
import voices
from corpus import Utterance
from flite import VOICES as FLITE_VOICES
from flite import Flite

from stk.cli.common import progress, run
from stk.data.example import Example
from stk.data.manifest import write_manifest
from stk.errors import StkError


def requests_for(
    name: str, utterances: Sequence[Utterance], directory: Path, seed: int
) -> list[espeak.Request]:
    """A voice and a file for every utterance of an espeak-ng set."""
    side = name if name in voices.VARIANTS else "test"
    requests = []
    for utterance in utterances:
        # One generator an utterance: its voice does not depend on the size of the set.
        rng = Random(f"{seed} {utterance.id}")
        accent, variant, rate, pitch = voices.draw(rng, side)
        path = directory / name / f"{utterance.id}.wav"
        text = utterance.phrase.texts["en"]
        requests.append(
            espeak.Request(
                text=text, accent=accent, variant=variant, rate=rate, pitch=pitch, path=path
            )
        )
    return requests


def example(utterance: Utterance, audio: Path, speaker: str, target: str) -> Example:
    """The manifest row of a spoken utterance."""
    return Example(
        id=utterance.id,
        audio=audio,
        duration=soundfile.info(audio).duration,
        src_text=utterance.phrase.texts["en"],
        src_lang="en",
        tgt_text=utterance.phrase.texts[target],
        tgt_lang=target,
        speaker=speaker,
    )


def speak_espeak(
    sets: dict[str, list[Utterance]], directory: Path, options: argparse.Namespace
) -> None:
    """Speak every set but the other engine's and write their manifests."""
    requests = {
        name: requests_for(name, utterances, directory, options.seed)
        for name, utterances in sets.items()
    }
    for name in sets:
        (directory / name).mkdir()
    everything = [request for chosen in requests.values() for request in chosen]
    spoken = espeak.speak_all(everything, options.processes)
    for _ in progress(spoken, total=len(everything), title="speaking"):
        pass
    for name, utterances in sets.items():
        rows = (
            example(utterance, request.path, f"{request.accent}+{request.variant}", options.tgt)
            for utterance, request in zip(utterances, requests[name], strict=True)
        )
        write_manifest(directory / f"{name}.jsonl", rows)


def speak_flite(
    utterances: Sequence[Utterance], directory: Path, options: argparse.Namespace
) -> str | None:
    """Speak the other engine's set; the reason where it had to be left out."""
    try:
        engine = Flite(options.downloads / "flite")
    except StkError as error:
        print(f"the set test_engine is left out: {error}", file=sys.stderr)
        return str(error)
    folder = directory / "test_engine"
    folder.mkdir()
    rows = []
    for index, utterance in enumerate(progress(utterances, title="speaking (flite)")):
        voice = FLITE_VOICES[index % len(FLITE_VOICES)]
        path = folder / f"{utterance.id}.wav"
        engine.speak(utterance.phrase.texts["en"], voice, path)
        rows.append(example(utterance, path, f"flite-{voice}", options.tgt))
    write_manifest(directory / "test_engine.jsonl", rows)
    return None


def build(options: argparse.Namespace) -> None:
    """Build the corpus beside its final place and rename it there."""
    sets = corpus.plan(options.size, options.tgt, options.seed)
    out: Path = options.out
    part = out.with_name(out.name + ".part")
    for old in (part, out):
        if old.exists():
            shutil.rmtree(old)
    part.mkdir(parents=True)
    other = sets.pop("test_engine")
    speak_espeak(sets, part, options)
    why = speak_flite(other, part, options)
    left_out = {} if why is None else {"test_engine": why}
    note = {"size": options.size, "target": options.tgt, "seed": options.seed}
    text = json.dumps({**note, "left_out": left_out}, ensure_ascii=False, indent=2)
    (part / "corpus.json").write_text(text + "\n", encoding="utf-8")
    part.rename(out)


def main(argv: list[str]) -> None:
    """Parse the options and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory; replaced if there")
    parser.add_argument("--downloads", type=Path, required=True, help="where flite is unpacked")
    parser.add_argument("--size", choices=sorted(corpus.SIZES), default="full")
    parser.add_argument("--tgt", choices=("de", "fr", "es"), default="de", help="language")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at once")
    build(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(run(main))
