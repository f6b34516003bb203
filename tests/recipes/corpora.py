"""Small corpora in the layouts of MuST-C and of CoVoST 2 with Common Voice, faults included.

    python tests/recipes/corpora.py must_c DIR --langs de fr
    python tests/recipes/corpora.py covost2 DIR --directions en_de fr_en

The sentences are the demo's phrases (recipes/demo/local), spoken by espeak-ng. What is wrong with
each corpus is returned, and printed by the script, as ``file:line kind``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import soundfile

DEMO = Path(__file__).resolve().parents[2] / "recipes" / "demo" / "local"
if str(DEMO) not in sys.path:
    sys.path.append(str(DEMO))

import espeak  # noqa: E402  (the demo's modules, found through the line above)
from corpus import Deck  # noqa: E402
from templates import TRAINED, Phrase  # noqa: E402

RATE = 16000
MUST_C_SETS = {"train": (24, 3), "dev": (5, 1), "tst-COMMON": (5, 1), "tst-HE": (4, 1)}
"""Set -> segments and talks."""
COVOST_SETS = {"train": 18, "train_covost": 6, "dev": 5, "test": 5}
"""Value of the column ``split`` -> clips."""
VOICES = {"en": "en", "de": "de", "fr": "fr", "es": "es"}
SPACED = "ted 2.wav"

Fault = tuple[Path, int, str]
"""File, line counted from 1, kind."""


def phrases(count: int, seed: int) -> list[Phrase]:
    """Different phrases in English, German, French and Spanish."""
    return Deck(seed, "de").deal(count, TRAINED, held_out=False)


def speak(texts: Sequence[str], lang: str, folder: Path) -> list[np.ndarray]:
    """The sound of each text, ``(N,)`` float32 at 16 kHz; files stay in ``folder``."""
    folder.mkdir(parents=True)
    requests = [
        espeak.Request(
            text=text,
            accent=VOICES[lang],
            variant=("m1", "f1", "m4")[index % 3],
            rate=200,
            pitch=50,
            path=folder / f"{index:04d}.wav",
        )
        for index, text in enumerate(texts)
    ]
    for _ in espeak.speak_all(requests, 2):
        pass
    return [soundfile.read(request.path, dtype="float32")[0] for request in requests]


def talks(sounds: Sequence[np.ndarray], count: int, seed: int) -> tuple[list[np.ndarray], list]:
    """Join sounds to ``count`` long recordings with pauses.

    Returns:
        The recordings, and for each sound its talk, offset and duration in seconds.
    """
    rng = Random(seed)
    joined: list[list[np.ndarray]] = [[] for _ in range(count)]
    filled = [0] * count
    places = []
    for index, sound in enumerate(sounds):
        talk = index * count // len(sounds)
        pause = np.zeros(rng.randrange(RATE // 4, RATE), dtype=np.float32)
        joined[talk] += [pause, sound]
        places.append((talk, (filled[talk] + len(pause)) / RATE, len(sound) / RATE))
        filled[talk] += len(pause) + len(sound)
    return [np.concatenate(parts) for parts in joined], places


def segment(duration: float, offset: float, wav: str, version: int) -> str:
    """One line of the segment YAML; version 1 has word counts, 2 and 3 have none."""
    words = "rW: 7, uW: 0, " if version == 1 else ""
    speaker = "spk." + wav.split(".")[0].split("_")[-1].replace(" ", "")
    return (
        f"- {{duration: {duration:.6f}, offset: {offset:.6f}, {words}"
        f"speaker_id: {speaker}, wav: {wav}}}"
    )


def write_must_c(
    root: Path, langs: Sequence[str] = ("de",), *, version: int = 1, faults: bool = True
) -> list[Fault]:
    """Write ``root/en-LANG/data/SET/{wav,txt}`` for every language; the faults in it.

    Every language has the same talks. Faults, all in ``train``: a segment beyond the end of its
    file, a sound file that is missing, an empty line, a Windows line end; and a talk whose
    name holds a space, which is legal and must work.
    """
    found: list[Fault] = []
    for number, (name, (count, talk_count)) in enumerate(MUST_C_SETS.items()):
        chosen = phrases(sum(c for c, _ in MUST_C_SETS.values()), seed=3)
        first = sum(c for c, _ in list(MUST_C_SETS.values())[:number])
        chosen = chosen[first : first + count]
        sounds = speak([p.texts["en"] for p in chosen], "en", root / "spoken" / name)
        recordings, places = talks(sounds, talk_count, seed=number)
        names = [f"ted_{10 * number + index}.wav" for index in range(talk_count)]
        if name == "train":
            names[-1] = SPACED
        for lang in langs:
            folder = root / f"en-{lang}" / "data" / name
            (folder / "wav").mkdir(parents=True)
            (folder / "txt").mkdir()
            for file, sound in zip(names, recordings, strict=True):
                soundfile.write(folder / "wav" / file, sound, RATE, subtype="PCM_16")
            rows = [
                (segment(length, start, names[talk], version), p.texts["en"], p.texts[lang])
                for p, (talk, start, length) in zip(chosen, places, strict=True)
            ]
            bad = name == "train" and faults
            found += write_texts(folder / "txt", name, lang, rows, version, bad)
    return found


def write_texts(
    folder: Path, name: str, lang: str, rows: list[tuple[str, str, str]], version: int, bad: bool
) -> list[Fault]:
    """The YAML and both texts of one set; with ``bad``, faults added at the end and within."""
    found: list[Fault] = []
    ends = ["\n"] * len(rows)
    yaml, source, target = (folder / f"{name}.{kind}" for kind in ("yaml", "en", lang))
    if bad:
        length = len(rows)
        rows = [
            *rows,
            (segment(4.0, 9000.0, "ted_0.wav", version), "beyond the end", "hinter dem Ende"),
            (segment(4.0, 1.0, "ted_404.wav", version), "no such talk", "kein Vortrag"),
            (segment(1.0, 0.2, "ted_0.wav", version), "nothing stands there", ""),
        ]
        ends += ["\n"] * 3
        ends[4] = "\r\n"
        found = [
            (yaml, length + 1, "beyond the end"),
            (yaml, length + 2, "missing sound"),
            (target, length + 3, "empty line"),
            (source, 5, "Windows line end"),
        ]
        found += [
            (yaml, at, "space in a name") for at, row in enumerate(rows, 1) if SPACED in row[0]
        ][:1]
    yaml.write_text("".join(row[0] + "\n" for row in rows))
    source.write_bytes("".join(r[1] + e for r, e in zip(rows, ends, strict=True)).encode())
    target.write_text("".join(row[2] + "\n" for row in rows), encoding="utf-8")
    return found


def write_covost2(
    root: Path, directions: Sequence[str] = ("en_de",), *, faults: bool = True
) -> list[Fault]:
    """Write ``root/cv/SRC/{clips,validated.tsv}`` and ``root/covost2/covost_v2.X_Y.tsv``.

    Faults, at the end of every direction's table: a clip that is missing, one that is no sound,
    an empty translation, a clip that ``validated.tsv`` does not have; one Windows line end; a
    clip whose name holds a space, which is legal and must work.
    """
    found: list[Fault] = []
    (root / "covost2").mkdir(parents=True, exist_ok=True)
    for source in dict.fromkeys(direction.split("_")[0] for direction in directions):
        chosen = phrases(sum(COVOST_SETS.values()), seed=5)
        names = write_clips(root, source, chosen, faults)
        for direction in directions:
            if direction.split("_")[0] == source:
                found += write_table(root, direction, names, chosen, faults)
    return found


def write_clips(root: Path, source: str, chosen: Sequence[Phrase], faults: bool) -> list[str]:
    """Common Voice's part of one language: MP3 clips and ``validated.tsv``; the clips' names."""
    folder = root / "cv" / source
    (folder / "clips").mkdir(parents=True)
    sounds = speak([p.texts[source] for p in chosen], source, root / "spoken" / source)
    names = [f"common_voice_{source}_{index:08d}.mp3" for index in range(len(chosen))]
    names[1] = f"common voice_{source}_00000001.mp3"
    for name, sound in zip(names, sounds, strict=True):
        soundfile.write(folder / "clips" / name, sound, RATE, format="MP3")
    rows = [(name, p.texts[source]) for name, p in zip(names, chosen, strict=True)]
    if faults:
        extra = [f"common_voice_{source}_9000000{index}.mp3" for index in range(3)]
        (folder / "clips" / extra[1]).write_bytes(b"this is no sound\n" * 40)
        (folder / "clips" / extra[2]).write_bytes((folder / "clips" / names[0]).read_bytes())
        rows += [(name, "one more sentence") for name in extra]
    head = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"
    lines = [
        f"{index % 5:064x}\t{name}\t{text}\t2\t0\t\t\t" for index, (name, text) in enumerate(rows)
    ]
    text = "".join(line + "\n" for line in [head, *lines])
    (folder / "validated.tsv").write_text(text, encoding="utf-8")
    return names


def write_table(
    root: Path, direction: str, names: list[str], chosen: Sequence[Phrase], faults: bool
) -> list[Fault]:
    """CoVoST 2's part of one direction: path, translation, split."""
    source, target = direction.split("_")
    path = root / "covost2" / f"covost_v2.{direction}.tsv"
    splits = [split for split, count in COVOST_SETS.items() for _ in range(count)]
    rows = [
        [name, p.texts[target if target in p.texts else "en"], split]
        for name, p, split in zip(names, chosen, splits, strict=True)
    ]
    found: list[Fault] = []
    ends = ["\n"] * (len(rows) + 5)
    if faults:
        length = len(rows) + 1  # the head is line 1
        extra = f"common_voice_{source}_9000000"
        rows += [
            [f"{extra}0.mp3", "there is no clip", "train"],
            [f"{extra}1.mp3", "this is no sound", "train"],
            [f"{extra}2.mp3", "", "train"],
            [f"{extra}9.mp3", "nobody validated this", "train"],
        ]
        kinds = ("missing sound", "broken sound", "empty line", "not validated")
        found = [(path, length + index, kind) for index, kind in enumerate(kinds, 1)]
        ends[6] = "\r\n"
        found += [(path, 7, "Windows line end"), (path, 3, "space in a name")]
    lines = ["path\ttranslation\tsplit", *("\t".join(row) for row in rows)]
    text = "".join(line + end for line, end in zip(lines, ends, strict=False))
    path.write_bytes(text.encode())
    return found


def main() -> None:
    """Write one of the corpora and print its faults."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpus", choices=("must_c", "covost2"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--langs", nargs="+", default=["de"], choices=("de", "fr", "es"))
    parser.add_argument("--directions", nargs="+", default=["en_de"])
    parser.add_argument("--version", type=int, default=1, choices=(1, 2, 3))
    options = parser.parse_args()
    if options.corpus == "must_c":
        found = write_must_c(options.root, options.langs, version=options.version)
    else:
        found = write_covost2(options.root, options.directions)
    for file, line, kind in found:
        print(f"{file}:{line} {kind}")


if __name__ == "__main__":
    main()
