"""The phrases of the demo: nineteen templates to train on and one that is held out.

``{slot}`` stands for a slot's words in the line's language, ``{slot.form}`` for another form of
them. Word order differs between the languages on purpose: separable verbs and verb-final
clauses in German, "il y a" before the number in French.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import spelling
from slots import Addition, Choice, Counted, Integers, Slot, Tuples


@dataclass(frozen=True, kw_only=True)
class Template:
    """A phrase with open slots.

    Attributes:
        name: for ids and reports.
        weight: how often it is drawn, relative to the others.
        slots: slot name -> what draws it.
        lines: language -> sentence with slots.
    """

    name: str
    weight: float
    slots: Mapping[str, Slot]
    lines: Mapping[str, str]


@dataclass(frozen=True)
class Phrase:
    """One filled template: ``texts`` by language, and the numerals it holds."""

    template: str
    texts: Mapping[str, str]
    numerals: tuple[str, ...]


def fill(template: Template, rng: Random, held_out: bool) -> Phrase:
    """Draw every slot of a template; ``held_out`` says which side numerals come from."""
    said = {name: slot.draw(rng, held_out) for name, slot in template.slots.items()}

    def words(lang: str) -> str:
        def one(match: re.Match[str]) -> str:
            name, _, form = match.group(1).partition(".")
            return said[name].texts[f"{lang}.{form}" if form else lang]

        return re.sub(r"\{([\w.]+)\}", one, template.lines[lang])

    numerals = tuple(numeral for value in said.values() for numeral in value.numerals)
    return Phrase(template.name, {lang: words(lang) for lang in spelling.LANGUAGES}, numerals)


def _things(*rows: str) -> Choice:
    """Words of the four languages, ``en|de|fr|es`` a row."""
    return Choice([dict(zip(spelling.LANGUAGES, row.split("|"), strict=True)) for row in rows])


_COUNTRIES = Choice(  # feminine in French, without an article in German
    ["DE", "ES", "FR", "IT", "NO", "SE", "FI", "PL", "GR", "IE", "IN", "EG", "IS", "CN", "AU"],
    spelling.country,
)
_WEEKDAYS = Choice(range(7), spelling.weekday)
_CLOCK = Tuples(
    "time",
    [(hour, minute) for hour in range(1, 13) for minute in range(0, 60, 5)],
    spelling.clock,
    {"es.is": lambda text: f"{'es' if text.startswith('la ') else 'son'} {text}"},
)
_DATE = Tuples(
    "date",
    [
        (day, month)
        for month, days in enumerate((31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), 1)
        for day in range(1, days + 1)
    ],
    spelling.date,
    {"de.n": lambda text: text.replace(" ", "n ", 1)},
)
_DECIMAL = Tuples("decimal", [(n,) for n in range(1, 1000) if n % 10], spelling.decimal)
_YEAR = Integers(1800, 2019, spell=spelling.year)
_FEW = Integers(2, 99, plural=True)
_MANY = Integers(2, 999, plural=True)
_SPAN = ("day", "week", "month", "year")
_COUNT = Integers(0, 9999)
_NUMBERED = _things(
    "room|Zimmer|chambre|habitación",
    "page|Seite|page|página",
    "line|Zeile|ligne|línea",
    "gate|Ausgang|porte|puerta",
    "flight|Flug|vol|vuelo",
    "house|Haus|maison|casa",
    "question|Frage|question|pregunta",
)
_PRICED = _things(
    "the book|das Buch|le livre|el libro",
    "the ticket|die Karte|le billet|la entrada",
    "the table|der Tisch|la table|la mesa",
    "the coat|der Mantel|le manteau|el abrigo",
    "the lamp|die Lampe|la lampe|la lámpara",
)
_CARRIED = _things(
    "the box|die Kiste|la caisse|la caja",
    "the suitcase|der Koffer|la valise|la maleta",
    "the bag|die Tasche|le sac|la bolsa",
)

TRAINED: tuple[Template, ...] = (
    Template(
        name="number",
        weight=3,
        slots={"n": _COUNT},
        lines={
            "en": "the number is {n}",
            "de": "die Zahl ist {n}",
            "fr": "le nombre est {n}",
            "es": "el número es {n}",
        },
    ),
    Template(
        name="numbered",
        weight=3,
        slots={"what": _NUMBERED, "n": Integers(1, 999)},
        lines={
            "en": "{what} number {n}",
            "de": "{what} Nummer {n}",
            "fr": "{what} numéro {n}",
            "es": "{what} número {n}",
        },
    ),
    Template(
        name="weight",
        weight=2,
        slots={
            "what": _CARRIED,
            "n": Counted(_MANY, ("mass-kilogram", "mass-gram"), spelling.quantity),
        },
        lines={
            "en": "{what} weighs {n}",
            "de": "{what} wiegt {n}",
            "fr": "{what} pèse {n}",
            "es": "{what} pesa {n}",
        },
    ),
    Template(
        name="length",
        weight=2,
        slots={"n": Counted(_MANY, ("length-meter", "length-centimeter"), spelling.quantity)},
        lines={
            "en": "the bridge is {n} long",
            "de": "die Brücke ist {n} lang",
            "fr": "le pont fait {n} de long",
            "es": "el puente mide {n} de largo",
        },
    ),
    Template(
        name="driven",
        weight=2,
        slots={"n": Counted(_MANY, ("length-kilometer",), spelling.quantity)},
        lines={
            "en": "we have driven {n}",
            "de": "wir sind {n} gefahren",
            "fr": "nous avons fait {n}",
            "es": "hemos recorrido {n}",
        },
    ),
    Template(
        name="wait",
        weight=2,
        slots={"n": Counted(_FEW, ("duration-minute", "duration-hour"), spelling.quantity)},
        lines={
            "en": "I have to wait {n}",
            "de": "ich muss {n} warten",
            "fr": "je dois attendre {n}",
            "es": "tengo que esperar {n}",
        },
    ),
    Template(
        name="ago",
        weight=3,
        slots={"past": Counted(_FEW, _SPAN, spelling.time_from_now, sign=-1)},
        lines={
            "en": "she called {past}",
            "de": "sie hat {past} angerufen",
            "fr": "elle a appelé {past}",
            "es": "ella llamó {past}",
        },
    ),
    Template(
        name="bought",
        weight=3,
        slots={"n": _FEW, "past": Counted(_FEW, _SPAN, spelling.time_from_now, sign=-1)},
        lines={
            "en": "we bought {n} books {past}",
            "de": "wir haben {past} {n} Bücher gekauft",
            "fr": "nous avons acheté {n} livres {past}",
            "es": "compramos {n} libros {past}",
        },
    ),
    Template(
        name="leaving",
        weight=2,
        slots={"future": Counted(_FEW, _SPAN, spelling.time_from_now)},
        lines={
            "en": "we are leaving {future}",
            "de": "wir reisen {future} ab",
            "fr": "nous partons {future}",
            "es": "nos vamos {future}",
        },
    ),
    Template(
        name="clock",
        weight=1,
        slots={"time": _CLOCK},
        lines={
            "en": "it is {time}",
            "de": "es ist {time}",
            "fr": "il est {time}",
            "es": "{time.is}",
        },
    ),
    Template(
        name="train",
        weight=3,
        slots={"day": _WEEKDAYS, "time": _CLOCK},
        lines={
            "en": "on {day} the train leaves at {time}",
            "de": "am {day} fährt der Zug um {time} ab",
            "fr": "le {day} le train part à {time}",
            "es": "el {day} el tren sale a {time}",
        },
    ),
    Template(
        name="meeting",
        weight=2,
        slots={"day": _WEEKDAYS, "time": _CLOCK},
        lines={
            "en": "the meeting is on {day} at {time}",
            "de": "die Besprechung ist am {day} um {time}",
            "fr": "la réunion est le {day} à {time}",
            "es": "la reunión es el {day} a {time}",
        },
    ),
    Template(
        name="date",
        weight=3,
        slots={"day": _WEEKDAYS, "date": _DATE},
        lines={
            "en": "today is {day} the {date}",
            "de": "heute ist {day} der {date}",
            "fr": "nous sommes le {day} {date}",
            "es": "hoy es {day} {date}",
        },
    ),
    Template(
        name="born",
        weight=3,
        slots={"date": _DATE, "year": _YEAR},
        lines={
            "en": "he was born on the {date} {year}",
            "de": "er wurde am {date.n} {year} geboren",
            "fr": "il est né le {date} {year}",
            "es": "él nació el {date} de {year}",
        },
    ),
    Template(
        name="price",
        weight=3,
        slots={"what": _PRICED, "euros": _MANY, "cents": _FEW},
        lines={
            "en": "{what} costs {euros} euros and {cents} cents",
            "de": "{what} kostet {euros} Euro und {cents} Cent",
            "fr": "{what} coûte {euros} euros et {cents} centimes",
            "es": "{what} cuesta {euros} euros con {cents} céntimos",
        },
    ),
    Template(
        name="cold",
        weight=3,
        slots={"where": _COUNTRIES, "n": Integers(2, 59, plural=True)},
        lines={
            "en": "it is minus {n} degrees in {where}",
            "de": "in {where} sind es minus {n} Grad",
            "fr": "il fait moins {n} degrés en {where}",
            "es": "en {where} hay menos {n} grados",
        },
    ),
    Template(
        name="attempt",
        weight=1,
        slots={"nth": Integers(4, 10, spell=spelling.ordinal), "year": _YEAR},
        lines={
            "en": "in {year} we made our {nth} attempt",
            "de": "im Jahr {year} machten wir unseren {nth.n} Versuch",
            "fr": "en {year} nous avons fait notre {nth} essai",
            "es": "en {year} hicimos nuestro {nth} intento",
        },
    ),
    Template(
        name="sum",
        weight=2,
        slots={"sum": Addition(Integers(0, 99))},
        lines=dict.fromkeys(spelling.LANGUAGES, "{sum}"),
    ),
    Template(
        name="decimal",
        weight=2,
        slots={"n": _DECIMAL},
        lines={
            "en": "the answer is {n}",
            "de": "die Antwort ist {n}",
            "fr": "la réponse est {n}",
            "es": "la respuesta es {n}",
        },
    ),
)

HELD_OUT = Template(
    name="meeting-in",
    weight=1,
    slots={"future": Counted(_FEW, _SPAN, spelling.time_from_now), "time": _CLOCK},
    lines={
        "en": "the meeting is {future} at {time}",
        "de": "die Besprechung ist {future} um {time}",
        "fr": "la réunion est {future} à {time}",
        "es": "la reunión es {future} a {time}",
    },
)
"""Every word of it occurs in training; the sentence does not."""
