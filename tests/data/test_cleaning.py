"""Cleaning of text, guessing of languages, parallel files, sampling by temperature."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from stk.data.cleaning import (
    Cleaning,
    CleaningRules,
    distinct,
    script_share,
    tidy,
    without_shared,
)
from stk.data.example import Example
from stk.data.guess_language import LanguageGuesser
from stk.data.parallel import read_parallel
from stk.data.sampling import temperature_sample, temperature_shares
from stk.errors import StkError

TEXTS = {
    "en": ["the house stands by the river and the children play there every day"],
    "de": ["das haus steht am fluss und die kinder spielen dort jeden tag"],
    "es": ["la casa está junto al río y los niños juegan allí todos los días"],
}


def pair(source: str, target: str, languages: str = "en-de") -> Example:
    first, second = languages.split("-")
    return Example(id=source, src_text=source, src_lang=first, tgt_text=target, tgt_lang=second)


def test_tidy_composes_and_drops_what_is_not_seen() -> None:
    assert tidy(" cafe\u0301\t\u00adau\u00a0lait\n") == "café au lait"
    assert tidy("plain") == "plain"


def test_script_share() -> None:
    assert script_share("дом house", "ru") == pytest.approx(3 / 8)
    assert script_share("größer?", "de") == 1.0
    assert script_share("12:30", "de") is None and script_share("abc", "ja") is None
    assert script_share("está", "es-MX") == 1.0


@pytest.mark.parametrize(
    ("example", "why"),
    [
        (pair("the house is old", "das Haus ist alt"), None),
        (pair("the house is old", "дом очень старый"), "another script"),
        (pair("the house is old", "The house is  OLD"), "both sides are one text"),
        (pair("the house", "das ist " * 10), "lengths do not fit"),
        (pair("one two", "a b c d e f g"), None),  # twice as long and three more
        (pair("...", "das Haus"), "too short"),
        (pair("the house " * 60, "das Haus " * 60), "too long"),
        (pair("the house is there", "the house stands by the river"), "another language"),
        (Example(id="m", src_text="nur deutsch und das haus", src_lang="de"), None),
    ],
)  # fmt: skip
def test_cleaning_says_why(example: Example, why: str | None) -> None:
    cleaning = Cleaning(CleaningRules(), LanguageGuesser(TEXTS))
    kept = list(cleaning([example]))
    assert cleaning.left_out == ({} if why is None else {why: 1})
    assert len(kept) == (why is None)


def test_rules_are_checked() -> None:
    with pytest.raises(ValueError, match="ratio"):
        CleaningRules(ratio=0.5)


def test_guesser() -> None:
    guesser = LanguageGuesser(TEXTS)
    assert [guesser.guess(texts[0]) for texts in TEXTS.values()] == ["en", "de", "es"]
    assert guesser.guess("wo die kinder spielen") == "de"
    assert all(score < 0 for score in guesser.scores("qqq").values())
    assert guesser.scores("!!") == dict.fromkeys(("de", "en", "es"), 0.0)
    with pytest.raises(StkError, match="no text in 'fr'"):
        LanguageGuesser({**TEXTS, "fr": []})
    with pytest.raises(StkError, match="one language cannot be told"):
        LanguageGuesser({"en": ["text"]})


def test_no_text_is_in_two_splits() -> None:
    test = [pair("A house.", "Ein Haus!")]
    rows = [pair("a house", "Gebäude"), pair("eins", "ein haus"), pair("two", "zwei")]
    left_out: Counter[str] = Counter()
    assert [r.src_text for r in without_shared(rows, test, left_out)] == ["two"]
    assert left_out == {"in another split": 2}
    repeated = [pair("two", "zwei"), pair("Two.", "Zwei"), pair("two", "2")]
    assert [r.tgt_text for r in distinct(repeated, left_out)] == ["zwei", "2"]
    assert left_out["repeated"] == 1


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_parallel_files(tmp_path: Path) -> None:
    source = write(tmp_path / "a.en", "a house\n\ntwo\u2028parts\n")
    target = write(tmp_path / "a.de", "ein Haus\n\nzwei")
    rows = list(read_parallel(source, target, "en", "de"))
    assert [(r.id, r.src_text, r.tgt_text, r.row) for r in rows] == [
        ("a-1", "a house", "ein Haus", 1),
        ("a-3", "two\u2028parts", "zwei", 3),
    ]
    write(target, "ein Haus\n")
    with pytest.raises(StkError, match=r"a\.en: 3 lines, but .*a\.de has 1"):
        list(read_parallel(source, target, "en", "de"))
    write(target, "ein Haus\nleer\nzwei\n")
    with pytest.raises(StkError, match=r"a\.en:2: the line is empty, but not in .*a\.de"):
        list(read_parallel(source, target, "en", "de"))
    with pytest.raises(StkError, match="unknown language"):
        list(read_parallel(source, target, "en", "xx"))
    empty = write(tmp_path / "empty", "")
    with pytest.raises(StkError, match="no text"):
        list(read_parallel(empty, empty, "en", "de"))


def test_temperature_shares() -> None:
    sizes = {"en": 900, "ro": 100}
    assert temperature_shares(sizes, 1.0) == pytest.approx({"en": 0.9, "ro": 0.1})
    assert temperature_shares(sizes, 2.0) == pytest.approx({"en": 0.75, "ro": 0.25})
    assert temperature_shares(sizes, 1e9) == pytest.approx({"en": 0.5, "ro": 0.5})
    with pytest.raises(StkError, match="no rows in ro"):
        temperature_shares({"en": 3, "ro": 0}, 2.0)


def test_language_frequencies_match_their_shares() -> None:
    rows = [
        Example(id=f"{lang}{i}", src_text="x", src_lang=lang)
        for lang, count in (("en", 900), ("ro", 100))
        for i in range(count)
    ]

    def language(row: Example) -> str:
        return str(row.src_lang)

    drawn = temperature_sample(rows, 1000, key=language, temperature=2.0)
    assert Counter(map(language, drawn)) == {"en": 750, "ro": 250}
    assert len({row.id for row in drawn}) == 1000  # repeated rows have names of their own
    plain = Counter(row.id.split("#")[0] for row in drawn if row.src_lang == "ro")
    assert len(plain) == 100 and set(plain.values()) == {2, 3}
    again = temperature_sample(rows, 1000, key=language, temperature=2.0)
    assert [r.id for r in drawn] == [r.id for r in again]
    other = temperature_sample(rows, 1000, key=language, temperature=2.0, seed=2)
    assert [r.id for r in drawn] != [r.id for r in other]
    with pytest.raises(StkError, match="no rows in fr"):
        temperature_sample(rows, 10, key=language, temperature=1.0, groups=("en", "fr"))
