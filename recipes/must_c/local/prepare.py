"""Turn MuST-C as it is unpacked into manifests, and name everything that is wrong with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from faults import Faults
from segments import Segment, read_lines, read_segments

from stk.cli.common import progress, run
from stk.data.audio import TOLERANCE, audio_info
from stk.data.example import Example
from stk.data.manifest import write_manifest
from stk.errors import StkError

LANGUAGES = ("de", "es", "fr", "it", "nl", "pt", "ro", "ru")
SETS = ("train", "dev", "tst-COMMON", "tst-HE")
NEEDED = ("train", "dev", "tst-COMMON")


def find(data: Path, lang: str) -> Path:
    """The directory that holds ``train``, ``dev``, ... of one language.

    Raises:
        StkError: says where it was looked for and what stands in ``data``.
    """
    pair = f"en-{lang}"
    looked = [data / pair / "data", data / "data"] if data.name == pair else [data / pair / "data"]
    looked += [data / f"MUSTC_v{v}.0_{pair}" / pair / "data" for v in (1, 2, 3)]
    for folder in looked:
        if folder.is_dir():
            return folder
    there = sorted(p.name for p in data.iterdir())[:10] if data.is_dir() else []
    raise StkError(
        f"no MuST-C for {pair}: looked for {', '.join(str(p) for p in looked)}; "
        f"found {', '.join(there) or 'nothing'}",
        file=data,
        mend=f"--data names the directory that holds {pair}",
    )


class Sounds:
    """Lengths of sound files, each header read once.

    Args:
        folder: where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._found: dict[str, float | str] = {}

    def length(self, name: str) -> float | str:
        """Seconds, or why there are none."""
        if name not in self._found:
            path = self.folder / name
            try:
                self._found[name] = audio_info(path).duration
            except StkError as error:
                self._found[name] = error.what
        return self._found[name]


def read_set(folder: Path, name: str, lang: str, faults: Faults, many: bool) -> Iterator[Example]:
    """The usable rows of one set.

    Args:
        folder: ``.../en-de/data/train``.
        name: of the set.
        lang: target language.
        faults: gets everything that is wrong.
        many: whether ids must differ between languages.

    Raises:
        StkError: a file is missing, or the files differ in length.
    """
    yaml = folder / "txt" / f"{name}.yaml"
    texts = {side: folder / "txt" / f"{name}.{side}" for side in ("en", lang)}
    segments = read_segments(yaml, faults)
    lines = {side: read_lines(path, faults) for side, path in texts.items()}
    for side, found in lines.items():
        if len(found) != len(segments):
            raise StkError(
                f"{len(found)} lines, but {yaml.name} has {len(segments)} segments",
                file=texts[side],
                mend="the three files belong together line by line",
            )
    sounds = Sounds(folder / "wav")
    spaced: set[str] = set()
    rows = progress(enumerate(segments), total=len(segments), title=f"{lang} {name}")
    for index, segment in rows:
        if segment is None:
            continue
        if " " in segment.wav and segment.wav not in spaced:
            spaced.add(segment.wav)
            faults.add(yaml, segment.line, "space in a name", repr(segment.wav), kept=True)
        row = Example(
            id=f"{lang}/{name}-{index + 1}" if many else f"{name}-{index + 1}",
            audio=sounds.folder / segment.wav,
            start=segment.offset,
            duration=segment.duration,
            src_text=lines["en"][index].strip(),
            src_lang="en",
            tgt_text=lines[lang][index].strip(),
            tgt_lang=lang,
            speaker=segment.speaker,
            doc=Path(segment.wav).stem,
        )
        if sound_fits(yaml, segment, sounds, faults) and texts_stand(texts, row, index, faults):
            yield row


def sound_fits(yaml: Path, segment: Segment, sounds: Sounds, faults: Faults) -> bool:
    """Whether the segment lies within its file; noted otherwise."""
    length = sounds.length(segment.wav)
    if isinstance(length, str):
        gone = not (sounds.folder / segment.wav).exists()
        kind = "missing sound" if gone else "broken sound"
        faults.add(yaml, segment.line, kind, f"{sounds.folder / segment.wav}: {length}")
        return False
    end = segment.offset + segment.duration
    if end > length + TOLERANCE:
        what = f"to {end:.2f} s, but {segment.wav} has {length:.2f} s"
        faults.add(yaml, segment.line, "beyond the end", what)
        return False
    return True


def texts_stand(texts: dict[str, Path], row: Example, index: int, faults: Faults) -> bool:
    """Whether both texts hold something; noted otherwise."""
    good = True
    for path, text in zip(texts.values(), (row.src_text, row.tgt_text), strict=True):
        if not text:
            faults.add(path, index + 1, "empty line", f"segment {row.id} lacks its text")
            good = False
    return good


def once(rows: Iterable[Example]) -> Iterator[Example]:
    """Rows for recognition: a segment that several languages share counts once."""
    seen: set[tuple[str | None, float, float | None]] = set()
    for row in rows:
        key = (row.doc, row.start, row.duration)
        if key not in seen:
            seen.add(key)
            yield replace(row, tgt_text=None, tgt_lang=None)


def parallel(prefix: Path, langs: list[str], faults: Faults) -> Iterator[Example]:
    """Rows of an external parallel corpus ``PREFIX.en`` and ``PREFIX.LANG``.

    Raises:
        StkError: a file is missing, or the two differ in length.
    """
    for lang in langs:
        pair = [prefix.with_name(f"{prefix.name}.{side}") for side in ("en", lang)]
        source, target = ([t.strip() for t in read_lines(path, faults)] for path in pair)
        if len(source) != len(target):
            raise StkError(f"{len(target)} lines, {pair[0].name} has {len(source)}", file=pair[1])
        for number, (english, other) in enumerate(zip(source, target, strict=True), 1):
            if english and other:
                yield Example(
                    id=f"{lang}/parallel-{number}",
                    src_text=english,
                    src_lang="en",
                    tgt_text=other,
                    tgt_lang=lang,
                )
            else:
                path = pair[0] if not english else pair[1]
                faults.add(path, number, "empty line", "the pair is left out")


def text_alone(row: Example) -> Example:
    """The row without its sound."""
    return Example(
        id=row.id,
        src_text=row.src_text,
        src_lang=row.src_lang,
        tgt_text=row.tgt_text,
        tgt_lang=row.tgt_lang,
        doc=row.doc,
    )


def prepare(data: Path, langs: list[str], out: Path, extra: Path | None) -> Faults:
    """Write SET.jsonl, asr-SET.jsonl, mt-train.jsonl and faults.txt; the faults.

    Raises:
        StkError: see :func:`find` and :func:`read_set`; or a set without a usable row.
    """
    faults = Faults()
    folders = {lang: find(data, lang) for lang in langs}
    for name in SETS:
        there = [lang for lang in langs if (folders[lang] / name).is_dir()]
        if name in NEEDED and len(there) < len(langs):
            lang = next(lang for lang in langs if lang not in there)
            raise StkError(
                "no such directory", file=folders[lang] / name, mend="is the corpus whole?"
            )
        rows = [
            row
            for lang in there
            for row in read_set(folders[lang] / name, name, lang, faults, len(langs) > 1)
        ]
        if there and not rows:
            faults.report(out / "faults.txt")
            raise StkError("no usable segment", file=folders[there[0]] / name)
        if rows:
            write_manifest(out / f"{name}.jsonl", rows)
            write_manifest(out / f"asr-{name}.jsonl", once(rows))
        if name == "train":
            more = parallel(extra, langs, faults) if extra else iter(())
            write_manifest(out / "mt-train.jsonl", (*map(text_alone, rows), *more))
    faults.report(out / "faults.txt")
    return faults


def main(argv: list[str]) -> None:
    """Parse the options and prepare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the corpus as unpacked")
    parser.add_argument("--langs", nargs="+", choices=LANGUAGES, required=True)
    parser.add_argument("--out", type=Path, required=True, help="directory of the manifests")
    parser.add_argument("--parallel", type=Path, metavar="PREFIX", help="PREFIX.en, PREFIX.de")
    options = parser.parse_args(argv)
    prepare(options.data, options.langs, options.out, options.parallel)


if __name__ == "__main__":
    sys.exit(run(main))
