"""COSTT beside its twin of the same size that keeps every state: what shrinking saves.

    python tests/bench/bench_shrink.py [--keep 0.25] [--csv FILE]
    python tests/bench/bench_shrink.py --checkpoint exp/costt --twin exp/costt-whole \
        --manifest data/test.jsonl [--beam 5] [--join 12]
    python tests/bench/bench_shrink.py --acoustic exp/costt-acoustic --manifest data/test.jsonl

Without checkpoints both models have random weights and the same ones, and the CTC head's scores
are replaced by labels of which the share ``--keep`` is not blank, as in trained models; clips are
random frames of one length a case. With checkpoints the manifest's clips are taken, grouped by
length, and chrF and BLEU of both are part of the case; ``--join`` puts clips of one language end to
end until they last so many seconds, for corpora that have few long ones. Both models take turns in
one process. Decoding without checkpoints is forced to the same number of steps, four a second of
sound. ``--acoustic`` prints what share of its states an encoder with a CTC head would keep, such as
COSTT's acoustic one after its own stage.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile
import torch
from harness import OURS, Result, arguments, compare, write
from torch import Tensor

import stk
from stk.config.run import DecodeConfig
from stk.data.audio import load_audio
from stk.data.batch import Source
from stk.data.example import Example
from stk.data.items import make_item
from stk.data.manifest import read_manifest
from stk.decoding.beam import Symbols, beam_search
from stk.decoding.scorers import ModelScorer
from stk.models.registry import build_model
from stk.ops import ctc_shrink
from stk.scoring import bleu, chrf

TWIN = "every state kept"
LABELS, PIECES, MELS = 200, 1000, 80
SIZES = {
    "encoder_layers": 6,
    "semantic_layers": 6,
    "decoder_layers": 6,
    "width": 256,
    "ffn": 1024,
    "heads": 4,
    "conv_channels": 512,
}
Models = dict[str, Any]


def options(parser: argparse.ArgumentParser) -> None:
    """What this bench is told besides."""
    parser.add_argument("--keep", type=float, default=0.25, help="share of states that are kept")
    parser.add_argument("--clips", type=int, default=4, help="of a batch")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--checkpoint", help="a trained COSTT")
    parser.add_argument("--twin", help="its trained twin with reduce: none")
    parser.add_argument("--manifest", help="clips to decode, with translations")
    parser.add_argument("--acoustic", nargs="+", help="encoders with CTC: the share they keep")
    parser.add_argument("--join", type=float, help="seconds that clips last, put end to end")


def spikes(keep: float) -> Callable[[Any, Any, Tensor], Tensor]:
    """A hook for the CTC head: evenly spread labels, no two alike in a row, blanks in between."""

    def scores(_module: Any, _inputs: Any, found: Tensor) -> Tensor:
        count = found.shape[1]
        place = (torch.arange(count + 1) * keep).floor()
        label = torch.where(place[1:] > place[:-1], 1 + torch.arange(count) % (LABELS - 1), 0)
        return torch.nn.functional.one_hot(label, LABELS).to(found.dtype).expand_as(found)

    return scores


def random_models(keep: float) -> Models:
    """COSTT and its twin with the same random weights."""
    models: Models = {}
    for name, reduce in ((OURS, "first"), (TWIN, "none")):
        torch.manual_seed(1)
        keys = {"name": "costt", "reduce": reduce, "dropout": 0.0, **SIZES}
        models[name] = build_model(keys, {"tgt": PIECES, "ctc": LABELS}, MELS).eval()
        models[name].ctc.register_forward_hook(spikes(keep))
    return models


def clips(seconds: int, count: int) -> Source:
    """Random frames of clips of one length."""
    generator = torch.Generator().manual_seed(seconds)
    frames = torch.randn(count, seconds * 100, MELS, generator=generator)
    return Source(frames, torch.full((count,), seconds * 100))


@torch.inference_mode()
def semantic(model: Any, source: Source) -> tuple[Callable[[], object], float]:
    """The semantic encoder alone over what it gets of the clips, and the share of states kept."""
    states, lengths, _ = model.encoder(source.data, source.lengths)
    share = 1.0
    if model.shrink is not None:
        shrunk = model.shrink(states, model.ctc(states), lengths)
        share = float(shrunk.lengths.sum() / lengths.sum())
        states, lengths = shrunk.states, shrunk.lengths
    return torch.inference_mode()(lambda: model.semantic(states, lengths)), share


def training(model: Any, source: Source) -> Callable[[], object]:
    """Forward and backward of the whole model with four target tokens a second."""
    model.train()
    count = int(source.lengths[0]) // 25
    inputs = torch.randint(5, PIECES, (len(source.lengths), count))
    lengths = torch.full_like(source.lengths, count)

    def step() -> None:
        model.zero_grad()
        found = model.decode(model.encode(source), inputs, lengths)
        found.states.square().mean().backward()

    return step


@torch.inference_mode()
def search(model: Any, source: Source, beam: int) -> None:
    """Encode and search for a forced number of steps."""
    steps = int(source.lengths[0]) // 25
    beam_search(
        ModelScorer(model, model.encode(source)),
        prefixes=[()] * len(source.lengths),
        limits=torch.full_like(source.lengths, steps - 1),
        config=DecodeConfig(beam=beam, min_length=steps - 1, max_length=steps),
        symbols=Symbols(),
    )


def without_checkpoints(args: argparse.Namespace) -> Iterator[list[Result]]:
    """Random weights, a given share."""
    models = random_models(args.keep)
    source = clips(15, args.clips)
    parts = {name: semantic(model, source) for name, model in models.items()}
    case = f"{args.clips} x 15 s, {100 * parts[OURS][1]:.0f} % of states kept"
    calls = {name: call for name, (call, _) in parts.items()}
    yield compare("COSTT semantic encoder", case, calls, args)
    for seconds in (3, 8, 12, 20):
        source = clips(seconds, args.clips)
        calls = {n: lambda m=m, s=source: search(m, s, args.beam) for n, m in models.items()}
        yield compare("COSTT decoding", f"{args.clips} x {seconds} s", calls, args)
    source = clips(15, args.clips)
    calls = {name: training(model, source) for name, model in models.items()}
    yield compare("COSTT training step", f"{args.clips} x 15 s", calls, args)


def with_checkpoints(args: argparse.Namespace) -> Iterator[list[Result]]:
    """Trained models on real clips, by length, with the quality of both."""
    if not args.twin or not args.manifest:
        raise SystemExit("--checkpoint, --twin and --manifest go together")
    names = {OURS: args.checkpoint, TWIN: args.twin}
    loaded = {n: stk.load(path, device="cpu", beam=args.beam) for n, path in names.items()}
    rows = read_manifest(args.manifest)
    if args.join:
        folder = tempfile.TemporaryDirectory()  # as long as this function runs
        rows = joined(rows, args.join, Path(folder.name))
    wanted = [row.tgt_text or "" for row in rows]
    quality = []
    for translator in loaded.values():
        said = [found.text for found in translator.translate_examples(rows)]
        quality.append(f"{chrf(said, wanted).value:.1f} chrF, {bleu(said, wanted).value:.1f} BLEU")
    share = kept(loaded[OURS], rows)
    note = f"{100 * share:.0f} % kept; {quality[0]} (twin {quality[1]})"
    bounds = (0, 2, 5, 10, 20, 1000)
    for low, high in zip(bounds, bounds[1:], strict=False):
        chosen = [r for r in rows if r.duration is not None and low <= r.duration < high][:32]
        if not chosen:
            continue
        calls = {n: lambda t=t, c=chosen: t.translate_examples(c) for n, t in loaded.items()}
        case = f"{len(chosen)} clips of {low} to {high} s; {note}"
        yield compare("COSTT decoding, trained", case, calls, args)


def joined(rows: Sequence[Example], seconds: float, folder: Path) -> list[Example]:
    """Clips of one language, in order, end to end, each as soon as it lasts ``seconds``."""
    parts: defaultdict[tuple[str | None, str | None], list[Example]] = defaultdict(list)
    whole = []
    for row in rows:
        same = parts[row.src_lang, row.tgt_lang]
        same.append(row)
        lasts = sum(part.duration or 0.0 for part in same)
        if lasts < seconds:
            continue
        path = folder / f"{len(whole)}.wav"
        sound = [load_audio(p.audio, p.start, p.duration) for p in same if p.audio]
        soundfile.write(path, torch.cat(sound).numpy(), 16000)
        text = " ".join(part.tgt_text or "" for part in same)
        whole.append(replace(row, audio=path, start=0.0, duration=lasts, tgt_text=text))
        same.clear()
    if not whole:
        raise SystemExit(f"no language of the manifest has {seconds:g} s of clips")
    return whole


@torch.inference_mode()
def kept(translator: Any, rows: list[Any]) -> float:
    """Share of the acoustic encoder's states that the semantic encoder gets, over a manifest."""
    member = translator.members[0]
    before = after = 0
    for row in rows:
        item = make_item(row, member.context.frontend)
        encoded = member.model.encode(member.objective.collate_source([item], member.context))
        before += int(encoded.ctc_lengths.sum())
        after += int(encoded.lengths.sum())
    return after / before


@torch.inference_mode()
def kept_by_encoder(checkpoint: str, rows: list[Any]) -> float:
    """Share of an encoder's states that shrinking by its CTC head would keep, over a manifest."""
    member = stk.load(checkpoint, device="cpu", search="ctc").members[0]
    before = after = 0
    for row in rows:
        item = make_item(row, member.context.frontend)
        encoded = member.model.encode(member.objective.collate_source([item], member.context))
        scores, lengths = encoded.ctc_logits, encoded.ctc_lengths
        after += int(ctc_shrink(scores, scores, lengths, reduce="first").lengths.sum())
        before += int(lengths.sum())
    return after / before


def main() -> None:
    args = arguments(__doc__, options)
    if args.acoustic:
        if not args.manifest:
            raise SystemExit("--acoustic needs --manifest")
        rows = read_manifest(args.manifest)
        for checkpoint in args.acoustic:
            print(f"{checkpoint}: {kept_by_encoder(checkpoint, rows):.1%} of the states kept")
        return
    for results in with_checkpoints(args) if args.checkpoint else without_checkpoints(args):
        write(results, args)


if __name__ == "__main__":
    main()
