"""Turn CoVoST 2 and Common Voice into manifests; MP3 clips become FLAC files once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import soundfile
from clips import Clip, directions, read_clips, read_validated
from faults import Faults

from stk.cli.common import progress, run
from stk.data.atomic import replacing
from stk.data.audio import load_audio
from stk.data.example import Example
from stk.data.manifest import write_manifest
from stk.errors import StkError

RATE = 16000
SETS = ("train", "dev", "test")


@dataclass(frozen=True)
class Conversion:
    """One clip to decode into the cache."""

    source: Path
    target: Path

    def __call__(self) -> float | str:
        """Seconds of sound, or why there are none; done before, it is only looked at."""
        if self.target.is_file():
            return soundfile.info(self.target).duration
        try:
            sound = load_audio(self.source, sample_rate=RATE).numpy().clip(-1, 1)
        except StkError as error:
            return error.what
        with replacing(self.target) as temporary:
            soundfile.write(temporary, sound, RATE, format="FLAC", subtype="PCM_16")
        return len(sound) / RATE


def convert(conversion: Conversion) -> float | str:
    """Run one conversion (a function of the module, so that worker processes find it)."""
    return conversion()


class Cache:
    """FLAC files of one language's clips.

    Args:
        clips: Common Voice's directory of MP3 files.
        folder: of the cache; made.
        processes: conversions at once.
    """

    def __init__(self, clips: Path, folder: Path, processes: int) -> None:
        self.clips, self.folder, self.processes = clips, folder, processes
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """The FLAC file of a clip."""
        return self.folder / f"{name.removesuffix('.mp3')}.flac"

    def fill(self, names: list[str]) -> dict[str, float | str]:
        """Decode what is not there yet; each clip's seconds, or why it has none."""
        work = [Conversion(self.clips / name, self.path(name)) for name in names]
        with ProcessPoolExecutor(self.processes) as pool:
            done = pool.map(convert, work, chunksize=64)
            found = progress(done, total=len(work), title=f"decoding {self.clips.parent.name}")
            return dict(zip(names, found, strict=True))


def read_direction(
    options: argparse.Namespace,
    direction: str,
    validated: dict[str, tuple[str, str]],
    faults: Faults,
) -> Iterator[tuple[str, Example]]:
    """Set and row of every usable clip of one direction; clips are decoded on the way.

    Raises:
        StkError: a table or the directory of clips is missing.
    """
    source, target = direction.split("_")
    table = options.data / f"covost_v2.{direction}.tsv"
    if not table.is_file() and (options.data / direction).is_dir():
        table = options.data / direction / table.name
    clips = options.cv / source / "clips"
    if not clips.is_dir():
        there = sorted(p.name for p in options.cv.iterdir())[:10] if options.cv.is_dir() else []
        raise StkError(
            f"no such directory; {options.cv} holds {', '.join(there) or 'nothing'}",
            file=clips,
            mend=f"--cv names the directory that holds {source}/clips",
        )
    found = list(read_clips(table, validated, faults))
    cache = Cache(clips, options.cache / source, options.processes)
    lengths = cache.fill([clip.name for clip in found])
    for clip in found:
        length = lengths[clip.name]
        if isinstance(length, str):
            kind = "broken sound" if (clips / clip.name).exists() else "missing sound"
            faults.add(table, clip.line, kind, f"{clips / clip.name}: {length}")
        else:
            yield clip.split, example(clip, direction, cache.path(clip.name), length)


def example(clip: Clip, direction: str, audio: Path, duration: float) -> Example:
    """The manifest row of a clip."""
    source, target = direction.split("_")
    return Example(
        id=f"{direction}/{clip.name.removesuffix('.mp3')}",
        audio=audio,
        duration=duration,
        src_text=clip.transcript,
        src_lang=source,
        tgt_text=clip.translation,
        tgt_lang=target,
        speaker=clip.speaker,
    )


def recognition(rows: list[Example]) -> Iterator[Example]:
    """Rows without translations; a clip that several directions share counts once."""
    seen: set[Path | None] = set()
    for row in rows:
        if row.audio not in seen:
            seen.add(row.audio)
            yield Example(
                id=f"{row.src_lang}/{row.id.split('/', 1)[1]}",
                audio=row.audio,
                duration=row.duration,
                src_text=row.src_text,
                src_lang=row.src_lang,
                speaker=row.speaker,
            )


def text_alone(row: Example) -> Example:
    """The row without its sound."""
    return Example(
        id=row.id,
        src_text=row.src_text,
        src_lang=row.src_lang,
        tgt_text=row.tgt_text,
        tgt_lang=row.tgt_lang,
    )


def prepare(options: argparse.Namespace) -> Faults:
    """Write SET.jsonl, asr-SET.jsonl, mt-train.jsonl and faults.txt; the faults.

    Raises:
        StkError: a file is missing, or a set has no usable row.
    """
    faults = Faults()
    sets: dict[str, list[Example]] = {name: [] for name in SETS}
    validated: dict[str, dict[str, tuple[str, str]]] = {}
    for direction in directions(options.direction):
        source = direction.split("_")[0]
        if source not in validated:
            validated = {source: read_validated(options.cv / source / "validated.tsv")}
        for name, row in read_direction(options, direction, validated[source], faults):
            sets[name].append(row)
    faults.report(options.out / "faults.txt")
    for name, found in sets.items():
        if not found:
            raise StkError(f"no usable row of the set {name}", file=options.data)
        write_manifest(options.out / f"{name}.jsonl", found)
        write_manifest(options.out / f"asr-{name}.jsonl", recognition(found))
    write_manifest(options.out / "mt-train.jsonl", map(text_alone, sets["train"]))
    return faults


def main(argv: list[str]) -> None:
    """Parse the options and prepare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="where covost_v2.X_Y.tsv lie")
    parser.add_argument("--cv", type=Path, help="where LANG/clips and LANG/validated.tsv lie")
    parser.add_argument("--direction", required=True, help="en_de, fr_en,de_en, x_en or en_x")
    parser.add_argument("--out", type=Path, help="directory of the manifests")
    parser.add_argument("--cache", type=Path, help="directory of the FLAC files")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at once")
    parser.add_argument("--names", action="store_true", help="print the directions and stop")
    options = parser.parse_args(argv)
    if options.names:
        print(*directions(options.direction))
        return
    prepare(options)


if __name__ == "__main__":
    sys.exit(run(main))
