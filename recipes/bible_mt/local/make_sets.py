"""Turn the Bible versions into manifests: monolingual text, pairs, and sets that share no verse.

mono/LANG.jsonl          training verses of every version, a chapter a document
mono-dev/LANG.jsonl      development verses of the first version
pairs/A-B/SIDE.jsonl     first versions side by side, A to B; train, dev, test
halves/LANG.jsonl        monolingual text of the close pair, no verse in both languages
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from verse_split import chance, split
from versions import Verse, Version, main_versions, read_verses

from stk.cli.common import run
from stk.data.cleaning import Cleaning, CleaningRules
from stk.data.example import Example
from stk.data.guess_language import LanguageGuesser
from stk.data.manifest import write_manifest
from stk.errors import StkError

GUESSED_FROM = 1500
"""Verses a language from which languages are told apart."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is made.

    Attributes:
        languages: of pre-training; each but English is paired with English.
        low: the low-resource pair, such as ``ro-en``, and the way back, which back-translation
            needs; both cut to ``verses``, in pre-training too.
        exotic: a pair of two languages that pre-training never sees; cut to ``verses``.
        close: the pair of unsupervised translation, tested both ways; nothing is trained with
            its pairs.
        verses: training verses of ``low`` and of ``exotic``.
        longest: words of a verse at most.
    """

    languages: tuple[str, ...]
    low: str
    exotic: str
    close: str
    verses: int
    longest: int

    def pairs(self) -> dict[str, int | None]:
        """Pair -> training verses (None: all)."""
        seen = [lang for lang in self.languages if lang != "en"]
        low = frozenset(self.low.split("-"))
        found: dict[str, int | None] = {}
        for lang in seen:
            cut = self.verses if frozenset((lang, "en")) == low else None
            found |= {f"{lang}-en": cut, f"en-{lang}": cut}
        for pair, verses in ((self.low, self.verses), (self.close, 0)):
            found |= {pair: verses, turned(pair): verses}
        return found | {self.exotic: self.verses}

    def check(self, known: Iterable[str]) -> None:
        """Raise unless the languages are there and the pairs are what their names promise.

        Raises:
            StkError: says what does not fit.
        """
        known = set(known)
        for lang in {*self.languages, *(side for pair in self.pairs() for side in pair.split("-"))}:
            if lang not in known:
                raise StkError(f"no version in {lang!r}", mend=f"there are {sorted(known)}")
        for pair in (self.low, self.exotic, self.close):
            if len(set(pair.split("-"))) != 2:
                raise StkError(f"{pair!r} does not name two languages", mend="such as ro-en")
        if set(self.exotic.split("-")) & set(self.languages):
            raise StkError(f"pre-training sees a side of the exotic pair {self.exotic}")
        english = {f"{lang}-en" for lang in self.languages}
        if {self.close, turned(self.close)} & {self.low, self.exotic, *english}:
            raise StkError(
                f"the close pair {self.close} is also trained with its pairs",
                mend="give --close a pair without English that is neither --low nor --exotic",
            )


class Maker:
    """Makes the sets of one plan.

    Args:
        versions: their verses.
        plan: what is made.
    """

    def __init__(self, versions: dict[Version, dict[Verse, str]], plan: Plan) -> None:
        self.versions, self.plan = versions, plan
        self.main = main_versions(versions)
        plan.check(self.main)
        self.side = split(versions.values())
        rules = CleaningRules(shortest=3, longest=plan.longest)
        self.cleaning = Cleaning(rules, self._guesser())
        # Scripts and languages are checked before texts are paired.
        self.pairing = Cleaning(replace(rules, script=0.0))
        self.clean: dict[Version, dict[Verse, Example]] = {}

    def _guesser(self) -> LanguageGuesser:
        texts: dict[str, list[str]] = {}
        for language, version in self.main.items():
            verses = self.versions[version]
            chosen = sorted(verses, key=lambda verse: chance(verse, "guess"))[:GUESSED_FROM]
            texts[language] = [verses[verse] for verse in chosen]
        return LanguageGuesser(texts)

    def of(self, side: str, version: Version) -> Iterator[Example]:
        """Clean verses of a side, in reading order."""
        if version not in self.clean:
            rows = (
                Example(id=name(version, verse), src_text=text, src_lang=version.language)
                for verse, text in sorted(self.versions[version].items())
            )
            self.clean[version] = {verse_of(row): row for row in self.cleaning(rows)}
        return (row for verse, row in self.clean[version].items() if self.side[verse] == side)

    def monolingual(self, language: str, side: str) -> Iterator[Example]:
        """Clean verses of a language: of all versions in training, else of the first."""
        versions = [v for v in self.versions if v.language == language]
        for version in versions if side == "train" else versions[:1]:
            for row in self.of(side, version):
                yield replace(row, doc=row.id.rpartition(".")[0])

    def parallel(self, pair: str, side: str, count: int | None = None) -> list[Example]:
        """Clean verses of the first versions of two languages; of ``count`` those that chance
        picks."""
        source, target = (self.main[lang] for lang in pair.split("-"))
        others = {verse_of(row): row for row in self.of(side, target)}
        rows = (
            replace(
                row,
                tgt_text=others[verse].src_text,
                tgt_lang=target.language,
                doc=".".join(map(str, verse[:2])),
            )
            for row in self.of(side, source)
            if (verse := verse_of(row)) in others
        )
        found = list(self.pairing(rows))
        if count is None or len(found) <= count:
            return found
        picked = sorted(found, key=lambda row: chance(verse_of(row), "low"))[:count]
        kept = {row.id for row in picked}
        return [row for row in found if row.id in kept]

    def half(self, pair: str, language: str) -> list[Example]:
        """Training verses of one side of a pair, those that the other side does not get."""
        first = language == pair.split("-")[0]
        rows = self.monolingual(language, "train")
        return [row for row in rows if (chance(verse_of(row), "half") < 0.5) == first]


def turned(pair: str) -> str:
    """A pair the other way round."""
    return "-".join(reversed(pair.split("-")))


def name(version: Version, verse: Verse) -> str:
    """Id of a verse."""
    return ".".join(map(str, (version.key, *verse)))


def verse_of(row: Example) -> Verse:
    """The verse an id names."""
    _, book, chapter, verse = row.id.split(".")
    return int(book), int(chapter), int(verse)


def prepare(database: Path, out: Path, plan: Plan) -> dict[str, object]:
    """Write ``out`` whole or not at all; return what was counted."""
    maker = Maker(read_verses(database), plan)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    rows: Counter[str] = Counter()

    def write(path: str, examples: Iterable[Example]) -> None:
        rows[path] = write_manifest(part / f"{path}.jsonl", some(examples, path))

    for language in maker.main:
        write(f"mono/{language}", maker.monolingual(language, "train"))
        write(f"mono-dev/{language}", maker.monolingual(language, "dev"))
    for pair, count in plan.pairs().items():
        if count != 0:
            write(f"pairs/{pair}/train", maker.parallel(pair, "train", count))
        for side in ("dev", "test"):
            write(f"pairs/{pair}/{side}", maker.parallel(pair, side))
    for language in plan.close.split("-"):
        write(f"halves/{language}", maker.half(plan.close, language))
    note: dict[str, object] = {
        "versions": {f"{v.language} {v.key}": v.name for v in maker.versions},
        "verses": dict(Counter(maker.side.values())),
        "rows": dict(rows),
        "left_out": dict(maker.cleaning.left_out + maker.pairing.left_out),
    }
    text = json.dumps(note, ensure_ascii=False, indent=1)
    (part / "prepared.json").write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return note


def some(examples: Iterable[Example], path: str) -> Sequence[Example]:
    """The examples; a set without any is an error.

    Raises:
        StkError: there is none.
    """
    found = list(examples)
    if not found:
        raise StkError(f"no text is left for {path}", mend="allow longer verses (--longest)")
    return found


def main(argv: list[str]) -> None:
    """Parse the options and prepare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="directory; replaced if there")
    parser.add_argument("--languages", nargs="+", default=["en", "de", "fr", "es", "ru", "ro"])
    parser.add_argument("--low", default="ro-en")
    parser.add_argument("--exotic", default="it-tl")
    parser.add_argument("--close", default="es-it")
    parser.add_argument("--verses", type=int, default=5000)
    parser.add_argument("--longest", type=int, default=30)
    options = parser.parse_args(argv)
    plan = Plan(
        languages=tuple(options.languages),
        low=options.low,
        exotic=options.exotic,
        close=options.close,
        verses=options.verses,
        longest=options.longest,
    )
    print(json.dumps(prepare(options.database, options.out, plan), ensure_ascii=False, indent=1))


if __name__ == "__main__":
    sys.exit(run(main))
