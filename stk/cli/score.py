"""``stk-score``: BLEU, chrF, WER and CER, and whether systems differ."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from stk.cli.common import run
from stk.data.atomic import write_text
from stk.errors import StkError
from stk.scoring import Bleu, Chrf, Metric, Score, Wer, paired_bootstrap, score
from stk.scoring.files import References, align, read_outputs, read_references

METRICS: dict[str, Callable[[argparse.Namespace, str | None], Metric]] = {
    "bleu": lambda args, lang: Bleu(lang, tokenise=args.tokenise, lowercase=args.lowercase),
    "chrf": lambda args, lang: Chrf(lowercase=args.lowercase),
    "chrf++": lambda args, lang: Chrf(word_order=2, lowercase=args.lowercase),
    "wer": lambda args, lang: Wer(args.normalise),
    "cer": lambda args, lang: Wer(args.normalise, unit="char"),
}


def parser() -> argparse.ArgumentParser:
    """The options of ``stk-score``."""
    p = argparse.ArgumentParser(prog="stk-score", description=__doc__)
    p.add_argument(
        "--hyp",
        nargs="+",
        required=True,
        metavar="FILE",
        help="outputs of each system: stk-decode's JSONL or plain lines; first: baseline",
    )
    p.add_argument(
        "--ref", required=True, metavar="FILE", help="a manifest (.jsonl) or plain lines"
    )
    p.add_argument(
        "--field",
        choices=("tgt_text", "src_text"),
        default="tgt_text",
        help="of the manifest's rows: translation (default) or transcript",
    )
    p.add_argument(
        "--metric",
        nargs="+",
        choices=tuple(METRICS),
        metavar="NAME",
        help=f"of {', '.join(METRICS)} (bleu chrf; with --field src_text: wer)",
    )
    p.add_argument(
        "--lang",
        metavar="CODE",
        help="language of the text, for BLEU's tokeniser (the manifest's, else 13a)",
    )
    p.add_argument(
        "--by",
        choices=("src_lang", "tgt_lang", "speaker", "doc"),
        metavar="FIELD",
        help="also score the rows of each value of src_lang, tgt_lang, speaker or doc",
    )
    p.add_argument("--tokenise", metavar="NAME", help="a sacreBLEU tokeniser instead")
    p.add_argument("--lowercase", action="store_true", help="ignore case in BLEU and chrF")
    p.add_argument(
        "--normalise",
        default="lower-nopunct",
        metavar="HOW",
        help="before WER: none, lower or lower-nopunct (default)",
    )
    p.add_argument(
        "--bootstrap",
        type=int,
        default=0,
        metavar="N",
        help="compare systems with the first by N resamples of distinct references",
    )
    p.add_argument("--seed", type=int, default=12345, help="of the resampling")
    p.add_argument("--json", metavar="FILE", help="also write all figures to this file")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_main, argv)


def _main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    if args.bootstrap and len(args.hyp) < 2:
        raise StkError("--bootstrap compares systems", mend="give two or more files after --hyp")
    references = read_references(args.ref, args.field)
    systems = {name: align(read_outputs(name, args.field), references) for name in args.hyp}
    if len(systems) != len(args.hyp):
        raise StkError("the same file stands twice after --hyp")
    names = args.metric or (["wer"] if args.field == "src_text" else ["bleu", "chrf"])
    figures: dict[str, Any] = {"scores": [], "comparisons": []}
    for name, outputs in systems.items():
        for group, rows in _groups(references, args.by):
            for metric_name in names:
                metric = METRICS[metric_name](args, _lang(references, rows, args))
                found = score(
                    metric, [outputs[i] for i in rows], [references.texts[i] for i in rows]
                )
                print(_line(name if len(systems) > 1 else None, group, found))
                figures["scores"].append(
                    {"system": name, "group": group, **dataclasses.asdict(found)}
                )
    if args.bootstrap:
        _compare(args, names, systems, references, figures)
    if args.json:
        write_text(args.json, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    return 0


def _compare(
    args: argparse.Namespace,
    names: Sequence[str],
    systems: dict[str, list[str]],
    references: References,
    figures: dict[str, Any],
) -> None:
    """Print and note the paired bootstrap of every system against the first."""
    lang = _lang(references, range(len(references.texts)), args)
    (first, baseline), *others = systems.items()
    for name, outputs in others:
        for metric_name in names:
            found = paired_bootstrap(
                METRICS[metric_name](args, lang),
                baseline,
                outputs,
                references.texts,
                samples=args.bootstrap,
                seed=args.seed,
            )
            print(f"{first} -> {name}: {found}")
            pair = {"baseline_system": first, "system_name": name}
            figures["comparisons"].append({**pair, **dataclasses.asdict(found)})


def _groups(references: References, by: str | None) -> list[tuple[str | None, Sequence[int]]]:
    """Row numbers of every group, all rows last under the name None."""
    everything: tuple[str | None, Sequence[int]] = (None, range(len(references.texts)))
    if by is None:
        return [everything]
    if references.rows is None:
        raise StkError(
            "--by needs a manifest", file=references.file, mend="plain lines say no more"
        )
    found: dict[str, list[int]] = {}
    for index, example in enumerate(references.rows):
        found.setdefault(str(getattr(example, by)), []).append(index)
    return [*sorted(found.items()), everything]


def _lang(references: References, rows: Sequence[int], args: argparse.Namespace) -> str | None:
    """The language of some references: named, or the one that the manifest's rows share."""
    if args.lang is not None or references.rows is None:
        return args.lang
    field = "tgt_lang" if args.field == "tgt_text" else "src_lang"
    langs = {getattr(references.rows[index], field) for index in rows}
    return langs.pop() if len(langs) == 1 else None


def _line(system: str | None, group: str | None, found: Score) -> str:
    parts = [part for part in (system, group) if part is not None]
    return ": ".join([*parts, str(found)])


if __name__ == "__main__":
    sys.exit(main())
