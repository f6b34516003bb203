"""Turn the unpacked package into 16 kHz FLAC files and a manifest for train, dev and test."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import soundfile
from split import split
from stamps import LANGUAGES, Clip, normalise, read_clips

from stk.cli.common import progress, run
from stk.data.audio import load_audio
from stk.data.example import Example
from stk.data.manifest import write_manifest

SAMPLE_RATE = 16000
STAMPS = Path("usr/share/tuxpaint/stamps")


@dataclass(frozen=True)
class Conversion:
    """One recording to convert."""

    source: Path
    target: Path

    def __call__(self) -> None:
        """Take the louder channel (in most stereo files the other is empty), write FLAC."""
        sound = load_audio(self.source, sample_rate=SAMPLE_RATE, channel="loudest")
        soundfile.write(
            self.target, sound.numpy().clip(-1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16"
        )


def convert(conversion: Conversion) -> None:
    """Run one conversion (a function of the module, so that worker processes find it)."""
    conversion()


def prepare(package: Path, out: Path, processes: int) -> None:
    """Write ``out`` whole or not at all.

    Args:
        package: where the Debian package was unpacked.
        out: gets flac/LANG/*.flac, train.jsonl, dev.jsonl, test.jsonl and prepared.json.
        processes: conversions at once.
    """
    clips, left_out = read_clips(package / STAMPS)
    part = out.with_name(out.name + ".part")
    for old in (part, out):
        if old.exists():
            shutil.rmtree(old)
    for lang in LANGUAGES:
        (part / "flac" / lang).mkdir(parents=True)
    path_of = {clip.id: part / "flac" / clip.lang / f"{clip.id}.flac" for clip in clips}
    work = [Conversion(clip.path, path_of[clip.id]) for clip in clips]
    with ProcessPoolExecutor(processes) as pool:
        done = pool.map(convert, work, chunksize=32)
        for _ in progress(done, total=len(work), title="converting"):
            pass
    note: dict[str, object] = {
        "left_out": {f"{lang}: {why}": count for (lang, why), count in sorted(left_out.items())}
    }
    for side, chosen in split(clips).items():
        write_manifest(part / f"{side}.jsonl", [example(c, path_of[c.id]) for c in chosen])
        note[side] = describe(chosen)
    text = json.dumps(note, ensure_ascii=False, indent=2)
    (part / "prepared.json").write_text(text + "\n", encoding="utf-8")
    part.rename(out)
    print(text)


def example(clip: Clip, audio: Path) -> Example:
    """The manifest row of a clip."""
    return Example(
        id=clip.id,
        audio=audio,
        duration=soundfile.info(audio).duration,
        src_text=clip.transcript,
        src_lang=clip.lang,
        tgt_text=clip.english,
        tgt_lang="en",
    )


def describe(clips: list[Clip]) -> dict[str, object]:
    """Numbers of one side."""
    return {
        "clips": len(clips),
        "sentences": len({normalise(clip.english) for clip in clips}),
        "by_language": dict(Counter(clip.lang for clip in clips)),
    }


def main(argv: list[str]) -> None:
    """Parse the options and prepare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, required=True, help="the unpacked package")
    parser.add_argument("--out", type=Path, required=True, help="directory; replaced if there")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at once")
    options = parser.parse_args(argv)
    prepare(options.package, options.out, options.processes)


if __name__ == "__main__":
    sys.exit(run(main))
