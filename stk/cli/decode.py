"""``stk-decode``: translate sound files, manifests or text with a trained model."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from omegaconf import OmegaConf

from stk.cli.common import progress, run
from stk.data.atomic import write_text
from stk.data.example import Example
from stk.data.manifest import SkipList, read_manifest, write_manifest
from stk.data.normalise import Normalisation
from stk.decoding.cascade import Cascade
from stk.decoding.pseudo_labels import pseudo_labelled
from stk.decoding.shard import parse_shard, take_shard
from stk.decoding.translator import Translation, Translator, load
from stk.errors import StkError

PICTURES = (".png", ".svg", ".pdf")


def parser() -> argparse.ArgumentParser:
    """The options of ``stk-decode``."""
    p = argparse.ArgumentParser(prog="stk-decode", description=__doc__)
    p.add_argument(
        "--checkpoint",
        nargs="+",
        required=True,
        metavar="DIR",
        help="a checkpoint or a run's output directory; several form an ensemble",
    )
    _add_cascade(p)
    source = p.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--audio", nargs="+", metavar="FILE", help="sound files of any common format"
    )
    source.add_argument("--manifest", metavar="FILE", help="a JSONL manifest")
    source.add_argument(
        "--text", metavar="FILE", help="one sentence a line; - reads standard input"
    )
    p.add_argument("--output", metavar="FILE", help="JSONL to write; without it texts are printed")
    p.add_argument(
        "--pseudo-labels",
        metavar="FILE",
        help="manifest to write: the inputs, with the outputs as their text",
    )
    p.add_argument(
        "--summary", metavar="FILE", help="JSON to write: counts, times, real-time factor"
    )
    p.add_argument(
        "--task", metavar="NAME", help="training stream whose task is decoded (the first)"
    )
    p.add_argument("--source-lang", metavar="CODE", help="of inputs that do not say it themselves")
    p.add_argument("--target-lang", metavar="CODE", help="language to write, for every input")
    p.add_argument("--beam", type=int, metavar="N", help="hypotheses kept a sentence (5)")
    p.add_argument("--nbest", type=int, metavar="N", help="outputs written a sentence (1)")
    p.add_argument(
        "--sample",
        action="store_true",
        help="draw outputs from the model's distribution; --set seed=2 draws others",
    )
    p.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further options of the search: length_penalty=0.6 batch.max_frames=20000 ...",
    )
    p.add_argument(
        "--lm", metavar="DIR", help="a causal language model that adds to the scores (fusion)"
    )
    p.add_argument(
        "--lm-weight", type=float, metavar="W", help="of its log-probabilities (0.1; 0: none)"
    )
    p.add_argument(
        "--shard", default="1/1", metavar="I/N", help="decode every N-th input, from the I-th"
    )
    p.add_argument(
        "--skip-bad", metavar="LIST", help="leave out bad inputs and list them in this file"
    )
    p.add_argument(
        "--report",
        metavar="FILE",
        help="picture of the first input: spectrogram, CTC, shrunk segments, cross-attention (PNG)",
    )
    p.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 ... (a GPU if there is one)")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads of one operation")
    return p


def _add_cascade(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--then",
        nargs="+",
        metavar="DIR",
        help="a cascade: a text translation model (or an ensemble) that reads the transcripts",
    )
    p.add_argument("--then-task", metavar="NAME", help="training stream of --then (the first)")
    p.add_argument(
        "--then-set", nargs="+", metavar="KEY=VALUE", help="options of the search of --then"
    )
    p.add_argument(
        "--bridge",
        choices=get_args(Normalisation),
        help="what becomes of a transcript before --then reads it (none)",
    )
    p.add_argument(
        "--transcripts", type=int, metavar="N", help="transcripts of a clip that are translated (1)"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return run(_main, argv)


def _main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    shard = parse_shard(args.shard)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    skipped = SkipList(args.skip_bad) if args.skip_bad else None
    examples = take_shard(_examples(args, skipped), *shard)
    translator = _translator(args)
    if args.report:
        _check_report(args, translator, examples)
    began = time.perf_counter()
    stream = translator.stream(examples, skip_bad=skipped)
    found = dict(progress(stream, total=len(examples), title="decoding"))
    seconds = time.perf_counter() - began
    ordered = [found[index] for index in sorted(found)]
    if args.output:
        lines = [json.dumps(_row(t), ensure_ascii=False) + "\n" for t in ordered]
        write_text(args.output, "".join(lines))
    else:
        for translation in ordered if not args.pseudo_labels else ():
            print(translation.text)
    if args.pseudo_labels:
        pairs = ((examples[index], found[index]) for index in sorted(found))
        count = write_manifest(args.pseudo_labels, pseudo_labelled(pairs, translator.writes))
        empty = f", {len(found) - count} without output left out"
        print(f"{args.pseudo_labels}: {count} rows{empty}", file=sys.stderr)
    if skipped is not None:
        skipped.write()
    if args.report:
        _report(args.report, translator, examples[0])
    summary = _summary(ordered, seconds, 0 if skipped is None else len(skipped))
    if args.summary:
        write_text(args.summary, json.dumps(summary, indent=1) + "\n")
    print(_sentence(summary, args.skip_bad), file=sys.stderr)
    return 0


def _translator(args: argparse.Namespace) -> Translator | Cascade:
    """One model or ensemble, or a cascade; ``--nbest`` is of what is written in the end."""
    if not args.then:
        for name in ("then_task", "then_set", "bridge", "transcripts"):
            if getattr(args, name) is not None:
                flag = "--" + name.replace("_", "-")
                raise StkError(f"{flag} is of a cascade", mend="name its second model by --then")
        options = _options(args.set, beam=args.beam, nbest=args.nbest) | _fusion(args)
        if args.sample and options.setdefault("search", "sample") != "sample":
            raise StkError(f"--sample and search={options['search']}", mend="leave one of them out")
        return load(*args.checkpoint, task=args.task, device=args.device, **options)
    if args.sample:
        raise StkError("--sample is of one model", mend="decode without --then")
    heard = _options(args.set, beam=args.beam, nbest=args.transcripts)
    said = _options(args.then_set or [], beam=args.beam, nbest=args.nbest)
    return Cascade(
        load(*args.checkpoint, task=args.task, device=args.device, **heard),
        load(*args.then, task=args.then_task, device=args.device, **said, **_fusion(args)),
        bridge=args.bridge or "none",
    )


def _fusion(args: argparse.Namespace) -> dict[str, Any]:
    """What :func:`load` is told of a language model; a cascade's last model is the one helped."""
    if args.lm is None:
        if args.lm_weight is not None:
            raise StkError("--lm-weight without a language model", mend="name it with --lm")
        return {}
    return {"lm": args.lm} | ({} if args.lm_weight is None else {"lm_weight": args.lm_weight})


def _check_report(
    args: argparse.Namespace, translator: Translator | Cascade, examples: Sequence[Example]
) -> None:
    """Before anything is decoded: can there be a picture?"""
    if isinstance(translator, Cascade) or not translator.reads_audio:
        raise StkError("--report pictures one model of speech", mend="decode without --then")
    if translator.config.search == "ctc":
        raise StkError("--report pictures the decoder's attention", mend="use search=beam")
    if Path(args.report).suffix.lower() not in PICTURES:
        raise StkError(f"--report {args.report}: not a picture", mend=f"end it in {PICTURES[0]}")
    if not examples:
        raise StkError("--report has no input to picture")


def _report(file: str, translator: Translator | Cascade, example: Example) -> None:
    from stk.reports.clip import clip_picture, view_example
    from stk.reports.page import save_picture

    assert isinstance(translator, Translator)
    save_picture(clip_picture(view_example(translator, example)), file)


def _options(pairs: Sequence[str], **flags: int | None) -> dict[str, Any]:
    for pair in pairs:
        if "=" not in pair:
            raise StkError(f"--set {pair!r} is not of the form key=value")
    options = OmegaConf.to_container(OmegaConf.from_dotlist(list(pairs)))
    assert isinstance(options, dict)
    given = {name: value for name, value in flags.items() if value is not None}
    return {str(key): value for key, value in options.items()} | given


def _examples(args: argparse.Namespace, skipped: SkipList | None) -> list[Example]:
    if args.manifest:
        examples = read_manifest(args.manifest, skip_bad=skipped)
    elif args.audio:
        examples = [Example(id=name, audio=Path(name)) for name in args.audio]
    else:
        examples = _sentences(args.text)
    if not examples and not skipped:
        raise StkError("nothing to decode", file=args.manifest or args.text)
    return [_with_languages(example, args) for example in examples]


def _sentences(name: str) -> list[Example]:
    if name == "-":
        lines = sys.stdin.read().splitlines()
    else:
        try:
            lines = Path(name).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise StkError(f"not UTF-8: {error.reason}", file=name) from None
    file = Path("<standard input>" if name == "-" else name)
    return [
        Example(id=str(row), src_text=line, file=file, row=row)
        for row, line in enumerate(lines, start=1)
    ]


def _with_languages(example: Example, args: argparse.Namespace) -> Example:
    return dataclasses.replace(
        example,
        src_lang=example.src_lang or args.source_lang,
        tgt_lang=args.target_lang or example.tgt_lang,
    )


def _row(translation: Translation) -> dict[str, Any]:
    """One line of the output."""
    row = dataclasses.asdict(translation)
    row["nbest"] = [dataclasses.asdict(candidate) for candidate in translation.nbest]
    return row


def _summary(translations: Sequence[Translation], seconds: float, skipped: int) -> dict[str, Any]:
    heard = [t.audio_seconds for t in translations if t.audio_seconds is not None]
    audio = sum(heard) if heard else None
    return {
        "inputs": len(translations),
        "skipped": skipped,
        "seconds": seconds,
        "inputs_per_second": len(translations) / seconds,
        "audio_seconds": audio,
        "real_time_factor": seconds / audio if audio else None,
    }


def _sentence(summary: dict[str, Any], skip_list: str | None) -> str:
    text = f"{summary['inputs']} inputs in {summary['seconds']:.2f} s"
    if summary["real_time_factor"] is not None:
        text += f", {summary['audio_seconds']:.1f} s of sound"
        text += f", real-time factor {summary['real_time_factor']:.4f}"
    text += f", {summary['inputs_per_second']:.2f} inputs/s"
    if summary["skipped"]:
        text += f", {summary['skipped']} skipped (listed in {skip_list})"
    return text


if __name__ == "__main__":
    sys.exit(main())
