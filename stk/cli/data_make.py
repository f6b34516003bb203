"""The commands of ``stk-data`` that write: convert, prepare, vocab, cmvn."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk.cli.common import progress
from stk.data.example import Example
from stk.data.manifest import Manifest, SkipList, write_manifest
from stk.errors import StkError

if TYPE_CHECKING:
    from stk.data.vocab import Vocab

FORMATS = ("manifest", "kaldi", "fairseq")


def add_to(commands: Any) -> None:
    """Add the commands to ``stk-data``'s subparsers."""
    _add_convert(commands)
    _add_prepare(commands)
    p = commands.add_parser("vocab", help="make a vocabulary from manifests or plain text")
    p.add_argument("input", nargs="+", help="manifests (.jsonl) or text files, one text a line")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--size", type=int, help="ids in all, specials and tags included")
    p.add_argument("--type", choices=("unigram", "bpe", "char", "phoneme"), default="unigram")
    p.add_argument("--fields", nargs="+", choices=("src_text", "tgt_text"), default=["tgt_text"])
    p.add_argument("--tags", nargs="*", default=[], metavar="TAG", help="languages and tasks")
    p.add_argument("--coverage", type=float, help="share of characters kept (default: 1)")
    p.add_argument("--normalization", help="rule of SentencePiece (default: nmt_nfkc)")
    p.add_argument("--lexicon", metavar="FILE", help="phoneme: lines of a word and its phonemes")
    p.add_argument(
        "--espeak", metavar="VOICE", help="phoneme: espeak-ng says the words (en-us ...)"
    )
    p.add_argument(
        "--missing",
        choices=("error", "unk"),
        default="error",
        help="phoneme: words that the lexicon lacks are refused, or all one label (error)",
    )
    p.set_defaults(body=_vocab)

    p = commands.add_parser("cmvn", help="mean and deviation of every feature bin")
    p.add_argument("manifest", nargs="+")
    p.add_argument("--out", required=True, metavar="FILE")
    p.add_argument("--config", metavar="YAML", help="a run's configuration, for its features")
    p.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="num_mel_bins=40 ...")
    p.add_argument("--clips", type=int, metavar="N", help="take N clips at random (default: all)")
    p.set_defaults(body=_cmvn)


def _add_convert(commands: Any) -> None:
    p = commands.add_parser("convert", help="between manifests, Kaldi and fairseq S2T")
    p.add_argument("input")
    p.add_argument("output")
    p.add_argument("--from", dest="source", choices=FORMATS, required=True)
    p.add_argument("--to", dest="target", choices=FORMATS, default="manifest")
    p.add_argument("--src-lang", metavar="CODE", help="where the input does not say")
    p.add_argument("--tgt-lang", metavar="CODE", help="where the input does not say")
    p.add_argument("--tgt-text", metavar="FILE", help="Kaldi: translations (default text.LANG)")
    p.add_argument(
        "--text-column",
        choices=("tgt_text", "src_text"),
        default="tgt_text",
        help="fairseq: field that its column tgt_text means (src_text: recognition)",
    )
    p.add_argument("--audio-root", default="", metavar="DIR", help="fairseq: root of its paths")
    p.add_argument("--extract", metavar="DIR", help="fairseq: where sound from archives goes")
    p.set_defaults(body=_convert)


def _add_prepare(commands: Any) -> None:
    p = commands.add_parser("prepare", help="measure durations; optionally rewrite the sound")
    p.add_argument("input")
    p.add_argument("output")
    p.add_argument("--audio-dir", metavar="DIR", help="write every clip there as mono FLAC")
    p.add_argument("--sample-rate", type=int, default=16000)
    p.add_argument("--channel", choices=("mean", "loudest", "first"), default="mean")
    p.add_argument("--skip-bad", metavar="LIST", help="leave bad rows out and list them")
    p.set_defaults(body=_prepare)


def _convert(args: argparse.Namespace) -> int:
    from stk.data.fairseq import FairseqOptions, read_fairseq, write_fairseq
    from stk.data.kaldi import read_kaldi, write_kaldi

    options = FairseqOptions(
        audio_root=Path(args.audio_root),
        target=args.text_column,
        src_lang=args.src_lang,
        tgt_lang=args.tgt_lang,
        extract=Path(args.extract) if args.extract else None,
    )
    examples: Sequence[Example]
    if args.source == "kaldi":
        examples = read_kaldi(
            args.input, src_lang=args.src_lang, tgt_lang=args.tgt_lang, tgt_text=args.tgt_text
        )
    elif args.source == "fairseq":
        examples = read_fairseq(args.input, options)
    else:
        examples = Manifest(args.input)
    rows = progress(examples, total=len(examples), title="convert")
    if args.target == "kaldi":
        count = write_kaldi(args.output, rows)
    elif args.target == "fairseq":
        count = write_fairseq(args.output, rows, options)
    else:
        count = write_manifest(args.output, rows)
    print(f"{args.output}: {count} rows")
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from stk.data.prepare import prepared

    skipped = SkipList(args.skip_bad) if args.skip_bad else None
    manifest = Manifest(args.input, skip_bad=skipped)
    rows = prepared(
        progress(manifest, total=len(manifest), title="prepare"),
        audio_dir=Path(args.audio_dir) if args.audio_dir else None,
        sample_rate=args.sample_rate,
        channel=args.channel,
        skip_bad=skipped,
    )
    count = write_manifest(args.output, rows)
    if skipped is not None:
        skipped.write()
        print(f"{args.skip_bad}: {len(skipped)} rows left out", file=sys.stderr)
    print(f"{args.output}: {count} rows")
    return 0


def _texts(paths: Sequence[str], fields: Sequence[str]) -> Iterator[str]:
    for path in paths:
        if path.endswith(".jsonl"):
            for example in Manifest(path):
                yield from (text for name in fields if (text := getattr(example, name)))
        else:
            with open(path, encoding="utf-8") as stream:
                yield from (line.strip() for line in stream if line.strip())


def _vocab(args: argparse.Namespace) -> int:
    from stk.data.vocab import CharVocab, train_sentencepiece

    texts = progress(_texts(args.input, args.fields), title="read texts")
    if args.type != "phoneme" and (args.lexicon or args.espeak):
        raise StkError("--lexicon and --espeak are of phonemes", mend="add --type phoneme")
    vocab: Vocab
    if args.type in ("char", "phoneme"):
        for option in ("size", "coverage", "normalization"):
            if getattr(args, option) is not None:
                raise StkError(
                    f"--{option} is SentencePiece's; --type {args.type} keeps everything as it is",
                    mend=f"leave --{option} out, or take --type bpe with a small --size",
                )
        vocab = (
            _phonemes(args, texts)
            if args.type == "phoneme"
            else CharVocab.of_texts(texts, args.tags)
        )
        vocab.save(args.out)
    else:
        if args.size is None:
            raise StkError("--size is needed", mend="for example --size 8000")
        vocab = train_sentencepiece(
            texts,
            args.size,
            tags=args.tags,
            model_type=args.type,
            character_coverage=1.0 if args.coverage is None else args.coverage,
            normalization=args.normalization or "nmt_nfkc",
            out_dir=args.out,
        )
    print(f"{args.out}: {len(vocab)} ids, tags: {' '.join(vocab.tags) or 'none'}")
    return 0


def _phonemes(args: argparse.Namespace, texts: Iterator[str]) -> Vocab:
    """A vocabulary of phonemes; words without pronunciation are counted and listed."""
    from stk.data.atomic import write_text
    from stk.data.espeak import pronounce
    from stk.data.phonemes import PhonemeVocab, read_pronunciations, words_of

    if (args.lexicon is None) == (args.espeak is None):
        raise StkError(
            "--type phoneme needs a lexicon", mend="one of --lexicon FILE, --espeak en-us"
        )
    read = list(texts)
    if args.lexicon is not None:
        lexicon = read_pronunciations(args.lexicon)
    else:
        lexicon = pronounce((word for text in read for word in words_of(text)), args.espeak)
    vocab, missing = PhonemeVocab.of_texts(read, lexicon, args.tags)
    if missing:
        listed = Path(args.out) / "missing.txt"
        ordered = sorted(missing.items(), key=lambda pair: (-pair[1], pair[0]))
        write_text(listed, "".join(f"{word}\t{count}\n" for word, count in ordered))
        used = sum(len(words_of(text)) for text in read)
        count = sum(missing.values())
        what = f"misses {len(missing)} words, {count} of {used} occurrences, listed in {listed}"
        if args.missing == "error":
            raise StkError(
                what, file=args.lexicon, mend="add them, or --missing unk makes them one label"
            )
        print(f"the lexicon {what}", file=sys.stderr)
    return vocab


def _cmvn(args: argparse.Namespace) -> int:
    from stk.config.run import FeatureConfig
    from stk.config.strict import build
    from stk.data.prepare import choose, global_cmvn

    stated = _stated_features(args.config, args.set)
    config = build(FeatureConfig, stated, where="features", file=args.config)
    if config.kind != "fbank":
        raise StkError("CMVN is over fbank features", file=args.config)
    examples = list(chain.from_iterable(Manifest(path) for path in args.manifest))
    chosen = choose([e for e in examples if e.audio is not None], args.clips)
    found = global_cmvn(chosen, config, lambda steps: progress(steps, title="cmvn"))
    found.save(args.out)
    print(f"{args.out}: {found.frames} frames of {len(chosen)} clips")
    return 0


def _stated_features(path: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    """The features of a run's configuration under overrides, without the CMVN about to be made."""
    from omegaconf import OmegaConf

    from stk.config.strict import load_mapping

    for override in overrides:
        if "=" not in override:
            raise StkError(f"--set {override!r} is not of the form key=value")
    stated = dict(load_mapping(path).get("features") or {}) if path else {}
    stated.update(OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides))))  # type: ignore[arg-type]
    return {key: value for key, value in stated.items() if key not in ("cmvn", "cmvn_file")}
