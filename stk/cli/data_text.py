"""The commands of ``stk-data`` over text: parallel, counts, synthetic, similarity."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk.data.atomic import replacing, write_text
from stk.data.manifest import Manifest, write_manifest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stk.data.guess_language import LanguageGuesser
    from stk.data.vocab import Vocab
    from stk.training.checkpoint import Loaded

PLOTTED = 30
"""Dictionary pairs of a picture; more cannot be read."""


def add_to(commands: Any) -> None:
    """Add the commands to ``stk-data``'s subparsers."""
    p = commands.add_parser("parallel", help="two files of parallel text to a manifest")
    p.add_argument("source", help="UTF-8 text, one sentence a line")
    p.add_argument("target", help="its translation, line by line")
    p.add_argument("output")
    p.add_argument("--src-lang", required=True, metavar="CODE")
    p.add_argument("--tgt-lang", required=True, metavar="CODE")
    p.add_argument("--clean", action="store_true", help="leave out pairs whose script or lengths "
                   "do not fit, and repeated ones")  # fmt: skip
    p.add_argument("--guess-from", nargs="+", metavar="MANIFEST", help="with --clean, leave out "
                   "texts of another language too, as guessed after these rows")  # fmt: skip
    p.set_defaults(body=_parallel)

    p = commands.add_parser("counts", help="how often every id occurs, for masked_lm's counts")
    p.add_argument("manifest", nargs="+")
    p.add_argument("--vocab", required=True, metavar="DIR")
    p.add_argument("--fields", nargs="+", choices=("src_text", "tgt_text"), default=["src_text"])
    p.add_argument("--out", required=True, metavar="FILE", help=".npy to write")
    p.set_defaults(body=_counts)

    _add_synthetic(commands)
    p = commands.add_parser("similarity", help="cosines of dictionary pairs among word vectors")
    p.add_argument(
        "--checkpoint", required=True, nargs="+", metavar="DIR", help="of one vocabulary"
    )
    p.add_argument(
        "--before", action="store_true", help="the first one before its training too, as its seed "
        "drew it"
    )  # fmt: skip
    p.add_argument("--view", default="src", help="view of the encoder's vocabulary (src)")
    p.add_argument("--lexicon", nargs="+", default=[], metavar="FILE", help="of held-out pairs")
    p.add_argument(
        "--scored",
        nargs="+",
        default=[],
        metavar="FILE",
        help="pairs that people scored (word, word, score between tabs): Pearson's correlation",
    )
    p.add_argument("--out", metavar="FILE", help="JSON to write")
    p.add_argument("--plot", metavar="FILE", help="PNG to write: pairs of the first lexicon in "
                   "a plane, a panel for each checkpoint")  # fmt: skip
    p.set_defaults(body=_similarity)


def _add_synthetic(commands: Any) -> None:
    p = commands.add_parser("synthetic", help="decoding output to training pairs")
    p.add_argument("manifest", help="the rows that were decoded")
    p.add_argument("decoded", help="what stk-decode --output wrote")
    p.add_argument("output")
    p.add_argument(
        "--side",
        choices=("source", "target"),
        required=True,
        help="what the model wrote: the source (back-translation) or the target (distillation)",
    )
    p.add_argument("--lang", metavar="CODE", help="of the output (the rows' tgt_lang)")
    p.add_argument("--longest", type=int, default=250, metavar="N", help="words of a side (250)")
    p.add_argument("--ratio", type=float, default=1.5, help="longer over shorter side (1.5)")
    p.add_argument(
        "--nearest", action="store_true", help="of the n best take that nearest to the reference"
    )
    p.set_defaults(body=_synthetic)


def _parallel(args: argparse.Namespace) -> int:
    from stk.data.cleaning import Cleaning, distinct
    from stk.data.parallel import read_parallel
    from stk.errors import StkError

    rows = read_parallel(args.source, args.target, args.src_lang, args.tgt_lang)
    left_out: Counter[str] = Counter()
    if args.guess_from and not args.clean:
        raise StkError("--guess-from is of cleaning", mend="add --clean")
    if args.clean:
        cleaning = Cleaning(guesser=_guesser(args) if args.guess_from else None)
        left_out = cleaning.left_out
        rows = distinct(cleaning(rows), left_out)
    count = write_manifest(args.output, rows)
    print(f"{args.output}: {count} rows{_reasons(left_out)}")
    return 0


def _guesser(args: argparse.Namespace) -> LanguageGuesser:
    """Tells the languages of some manifests apart, both of the pair among them."""
    from stk.data.guess_language import LanguageGuesser
    from stk.errors import StkError

    guesser = LanguageGuesser.of_examples(chain.from_iterable(map(Manifest, args.guess_from)))
    for language in (args.src_lang, args.tgt_lang):
        if language not in guesser.languages:
            raise StkError(
                f"no row of --guess-from has a text in {language!r}",
                mend=f"languages there: {', '.join(guesser.languages)}",
            )
    return guesser


def _counts(args: argparse.Namespace) -> int:
    from stk.data.token_counts import count_tokens, save_counts
    from stk.data.vocab import load_vocab

    texts = (
        text
        for example in chain.from_iterable(Manifest(path) for path in args.manifest)
        for field in args.fields
        if (text := getattr(example, field))
    )
    counts = count_tokens(texts, load_vocab(args.vocab))
    save_counts(counts, args.out)
    print(f"{args.out}: {int(counts.sum())} tokens, {int((counts > 0).sum())} of {len(counts)} ids")
    return 0


def _synthetic(args: argparse.Namespace) -> int:
    from stk.data.synthetic import SyntheticRules, read_candidates, synthetic_pairs
    from stk.scoring.chrf import chrf

    left_out: Counter[str] = Counter()
    rows = synthetic_pairs(
        Manifest(args.manifest),
        read_candidates(args.decoded),
        side=args.side,
        language=args.lang,
        rules=SyntheticRules(longest=args.longest, ratio=args.ratio),
        nearest=(lambda a, b: chrf([a], [b]).value) if args.nearest else None,
        left_out=left_out,
    )
    count = write_manifest(args.output, rows)
    print(f"{args.output}: {count} rows{_reasons(left_out)}")
    return 0


def _reasons(left_out: Counter[str]) -> str:
    parts = [f"{count} left out: {why}" for why, count in sorted(left_out.items())]
    return "".join(f", {part}" for part in parts)


def _similarity(args: argparse.Namespace) -> int:
    from stk.data.lexicon import load_lexicon, load_scored_pairs
    from stk.errors import StkError
    from stk.reports.embeddings import correlation, plane_picture, similarity

    if not args.lexicon and (args.plot or not args.scored):
        raise StkError("no pairs of words to compare", mend="name them by --lexicon")
    lexicons = {name: list(load_lexicon(name).pairs()) for name in args.lexicon}
    scored = {name: load_scored_pairs(name) for name in args.scored}
    tables, vocab = _tables(args)
    figures: list[dict[str, Any]] = []
    judged: list[dict[str, Any]] = []
    for checkpoint, table in tables.items():
        for name, triples in scored.items():
            pearson = correlation(triples, vocab, table)
            judged.append({"checkpoint": checkpoint, "scored": name, "pairs": len(triples),
                           "pearson": pearson})  # fmt: skip
            print(f"{checkpoint}: {name}: Pearson {pearson:.3f}, {len(triples)} pairs")
        for name, pairs in lexicons.items():
            found = similarity(pairs, vocab, table)
            figures.append({"checkpoint": checkpoint, "lexicon": name, **dataclasses.asdict(found)})
            print(
                f"{checkpoint}: {name}: cosine {found.cosine:.3f} (no pair: "
                f"{found.unrelated:.3f}), L2 {found.distance:.3f}, {found.pairs} pairs"
            )
    if args.out:
        found_all = {"lexicons": figures} | ({"scored": judged} if judged else {})
        write_text(args.out, json.dumps(found_all, indent=1) + "\n")
    if args.plot:
        first = next(iter(lexicons.values()))
        shown = [first[i * len(first) // PLOTTED] for i in range(PLOTTED)]
        short = {Path(name).name: table for name, table in tables.items()}
        panels = short if len(short) == len(tables) else tables
        picture = plane_picture(panels, list(dict.fromkeys(shown)), vocab)
        with replacing(args.plot) as part:
            picture.savefig(part, format="png", dpi=120)
    return 0


def _tables(args: argparse.Namespace) -> tuple[dict[str, Tensor], Vocab]:
    """Name -> table of every model, what stood before training first, and their vocabulary."""
    from stk.errors import StkError
    from stk.reports.embeddings import embedding_table
    from stk.training.checkpoint import load_model

    tables: dict[str, Tensor] = {}
    vocab: Vocab | None = None
    for name in args.checkpoint:
        loaded = load_model(name)
        if args.view not in loaded.vocabs:
            known = ", ".join(loaded.vocabs)
            raise StkError(f"no view {args.view!r}", file=Path(name), mend=f"--view takes {known}")
        own = loaded.vocabs[args.view]
        if vocab is not None and own.digest != vocab.digest:
            raise StkError("has another vocabulary", file=Path(name), mend="compare like models")
        if args.before and not tables:
            tables["before training"] = embedding_table(_untrained(loaded, Path(name)))
        vocab, tables[name] = own, embedding_table(loaded.model)
    assert vocab is not None
    return tables, vocab


def _untrained(loaded: Loaded, path: Path) -> nn.Module:
    """The model with the weights that its run's seed drew.

    Raises:
        StkError: the run started from other checkpoints.
    """
    from stk.errors import StkError
    from stk.models.registry import build_model
    from stk.training import rng

    if loaded.config.init_from:
        mend = "give what it started from as a checkpoint, without --before"
        raise StkError("did not start from random weights", file=path, mend=mend)
    sizes = {view: len(vocab) for view, vocab in loaded.vocabs.items()}
    with rng.undisturbed():
        rng.seed_all(loaded.config.seed)
        return build_model(
            loaded.config.model, sizes, None if loaded.frontend is None else loaded.frontend.dim
        )
