"""How a value is said in English, German, French and Spanish, all in words.

num2words spells numbers, Babel knows months, weekdays, countries, units and "three days ago";
clock times are written here, since neither says "half past three".
"""

from __future__ import annotations

import datetime
import re
from functools import cache

from babel import Locale
from babel.dates import format_timedelta, get_day_names, get_month_names
from babel.units import format_unit
from num2words import num2words

LANGUAGES = ("en", "de", "fr", "es")


@cache
def cardinal(n: int, lang: str) -> str:
    """47 -> "forty-seven", "siebenundvierzig", "quarante-sept", "cuarenta y siete"."""
    return str(num2words(n, lang=lang))


@cache
def ordinal(n: int, lang: str) -> str:
    """24 -> "twenty-fourth", "vierundzwanzigste", "vingt-quatrième", "vigésimo cuarto"."""
    text = str(num2words(n, lang=lang, to="ordinal"))
    return text.replace("quadrag", "cuadrag") if lang == "es" else text  # num2words misspells it


@cache
def year(n: int, lang: str) -> str:
    """1984 -> "nineteen eighty-four", "neunzehnhundertvierundachtzig", ..."""
    return str(num2words(n, lang=lang, to="year"))


def decimal(tenths: int, lang: str) -> str:
    """35 -> "three point five", "drei Komma fünf", "trois virgule cinq", "tres coma cinco"."""
    mark = {"en": "point", "de": "Komma", "fr": "virgule", "es": "coma"}[lang]
    return f"{cardinal(tenths // 10, lang)} {mark} {cardinal(tenths % 10, lang)}"


def date(day: int, month: int, lang: str) -> str:
    """(3, 5) -> "third of May", "dritte Mai", "trois mai", "tres de mayo"."""
    name = get_month_names("wide", locale=lang)[month]
    if lang == "en":
        return f"{ordinal(day, lang)} of {name}"
    if lang == "de":
        return f"{ordinal(day, lang)} {name}"
    said = ordinal(1, lang) if day == 1 and lang == "fr" else cardinal(day, lang)
    return f"{said} de {name}" if lang == "es" else f"{said} {name}"


def weekday(index: int, lang: str) -> str:
    """0 -> "Monday", "Montag", "lundi", "lunes"."""
    return str(get_day_names("wide", locale=lang)[index])


def country(code: str, lang: str) -> str:
    """ "DE" -> "Germany", "Deutschland", "Allemagne", "Alemania"."""
    return str(Locale(lang).territories[code])


def quantity(n: int, unit: str, lang: str) -> str:
    """(47, "length-meter") -> "forty-seven meters", "siebenundvierzig Meter", ..."""
    return _in_words(format_unit(n, unit, length="long", locale=lang), n, lang)


def time_from_now(n: int, unit: str, lang: str) -> str:
    """(3, "day") -> "in three days"; (-3, "day") -> "three days ago", "vor drei Tagen", ..."""
    seconds = {"minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
    seconds |= {"month": 30 * 86400, "year": 365 * 86400}
    span = datetime.timedelta(seconds=n * seconds[unit])
    # A threshold above any value keeps the asked-for unit: 40 days do not become a month.
    text = format_timedelta(
        span, granularity=unit, threshold=float("inf"), add_direction=True, locale=lang
    )
    return _in_words(text, abs(n), lang)


def _in_words(text: str, n: int, lang: str) -> str:
    """Put words where a localised text has the digits of ``n``; plain spaces between them."""
    digits = re.compile(r"\d[\d.,\s]*\d|\d")
    found = digits.search(text)
    if found is None or int(re.sub(r"\D", "", found.group())) != n:
        raise ValueError(f"{text!r} does not hold {n}")
    return " ".join(digits.sub(cardinal(n, lang), text, count=1).split())


def clock(hour: int, minute: int, lang: str) -> str:
    """Time of day on a twelve-hour dial, ``minute`` a multiple of five.

    (3, 30) -> "half past three", "halb vier", "trois heures et demie", "las tres y media".
    """
    return _CLOCKS[lang](hour, minute, hour % 12 + 1)


def _clock_en(hour: int, minute: int, following: int) -> str:
    if minute == 0:
        return f"{cardinal(hour, 'en')} o'clock"
    past = {15: "a quarter", 30: "half"}
    if minute <= 30:
        return f"{past.get(minute) or cardinal(minute, 'en')} past {cardinal(hour, 'en')}"
    left = 60 - minute
    return f"{past.get(left) or cardinal(left, 'en')} to {cardinal(following, 'en')}"


def _clock_de(hour: int, minute: int, following: int) -> str:
    this = "eins" if hour == 1 else cardinal(hour, "de")
    that = "eins" if following == 1 else cardinal(following, "de")
    if minute == 0:
        return f"{'ein' if hour == 1 else this} Uhr"
    if minute == 15:
        return f"Viertel nach {this}"
    if minute <= 20:
        return f"{cardinal(minute, 'de')} nach {this}"
    if minute in (25, 30, 35):
        return {25: "fünf vor ", 30: "", 35: "fünf nach "}[minute] + f"halb {that}"
    return f"{'Viertel' if minute == 45 else cardinal(60 - minute, 'de')} vor {that}"


def _clock_fr(hour: int, minute: int, following: int) -> str:
    def hours(n: int) -> str:
        return "une heure" if n == 1 else f"{cardinal(n, 'fr')} heures"

    if minute <= 30:
        past = {0: "", 15: " et quart", 30: " et demie"}
        return hours(hour) + past.get(minute, f" {cardinal(minute, 'fr')}")
    left = 60 - minute
    return f"{hours(following)} moins {'le quart' if left == 15 else cardinal(left, 'fr')}"


def _clock_es(hour: int, minute: int, following: int) -> str:
    def hours(n: int) -> str:
        return "la una" if n == 1 else f"las {cardinal(n, 'es')}"

    if minute <= 30:
        past = {0: "", 15: " y cuarto", 30: " y media"}
        return hours(hour) + past.get(minute, f" y {cardinal(minute, 'es')}")
    left = 60 - minute
    return f"{hours(following)} menos {'cuarto' if left == 15 else cardinal(left, 'es')}"


_CLOCKS = {"en": _clock_en, "de": _clock_de, "fr": _clock_fr, "es": _clock_es}
