"""What word-level distillation adds to a training step: the teacher in every step, or its cache.

    python tests/bench/bench_distillation.py [--size s] [--clips 8] [--csv FILE]

The same batches are collated (sound to features, texts to ids, the sidecar read) and trained on
with forward, backward and a fused Adam step: by cross-entropy alone, with the teacher in every
step, and with its eight best tokens from a sidecar. The three take turns in one process on one set
of clips; a ratio of r means that 1 - 1/r of the step is distillation's. Student and teacher have
the sizes of recipes/common (s, 8,000 pieces) or of recipes/tuxpaint (small, 400 pieces).
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import OURS, Result, arguments, compare, write

from stk.config.run import FeatureConfig
from stk.data.batch import Item
from stk.data.example import Example
from stk.data.sidecar import Sidecar, SidecarWriter, made_by
from stk.data.vocab import CharVocab
from stk.features.frontend import FrontEnd
from stk.models.registry import build_model
from stk.objectives.base import CollateContext, Context
from stk.objectives.combine import ObjectiveModule
from stk.objectives.registry import build_objective

SIZES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "s": (
        8000,
        {"preset": "s"},
        {"encoder_layers": 6, "decoder_layers": 6, "width": 256, "ffn": 2048, "heads": 4},
    ),
    "small": (
        400,
        {
            "encoder_layers": 6,
            "decoder_layers": 2,
            "width": 160,
            "ffn": 640,
            "heads": 4,
            "conv_channels": 320,
        },
        {"encoder_layers": 3, "decoder_layers": 2, "width": 160, "ffn": 640, "heads": 4},
    ),
}
RATE, TOP = 16000, 8


def options(parser: argparse.ArgumentParser) -> None:
    """What this bench is told besides."""
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--clips", type=int, default=8, help="of a batch")
    parser.add_argument("--clip-seconds", type=float, default=5.0)


def make_items(vocab: CharVocab, count: int, seconds: float) -> list[Item]:
    """Clips of noise with four random tokens a second on both sides."""
    rng, draw = np.random.default_rng(1), random.Random(1)
    length = round(4 * seconds)
    characters = [vocab.piece(i) for i in range(5, len(vocab))]
    items = []
    for index in range(count):
        texts = ["".join(draw.choices(characters, k=length)) for _ in range(2)]
        example = Example(id=f"r{index}", src_text=texts[0], tgt_text=texts[1])
        sound = torch.from_numpy(rng.standard_normal(round(seconds * RATE)).astype(np.float32))
        items.append(Item(example=example, rng=rng, waveform=0.1 * sound))
    return items


def write_cache(path: Path, vocab: CharVocab, items: list[Item]) -> Sidecar:
    """A sidecar as ``stk-data teacher`` writes it, with random tokens and probabilities."""
    generator = torch.Generator().manual_seed(1)
    with SidecarWriter(path, made_by(bench=True)) as writer:
        for item in items:
            labels = torch.tensor([*vocab.encode(item.example.tgt_text or ""), vocab.eos]).int()
            shape = (len(labels), TOP)
            choices = torch.randint(5, len(vocab), shape, generator=generator).int()
            probs = torch.rand(shape, generator=generator).half()
            fields = {"labels": labels, "choices": choices, "probs": probs}
            writer.add(item.example.id, fields)
    return Sidecar(path)


def steps(args: argparse.Namespace, folder: Path) -> dict[str, Callable[[], object]]:
    """Collating and training on the same clips, in three ways."""
    size, student, teacher = SIZES[args.size]
    vocab = CharVocab([chr(0x4E00 + i) for i in range(size - 5)])
    items = make_items(vocab, args.clips, args.clip_seconds)
    context = CollateContext(
        vocabs={"src": vocab, "tgt": vocab},
        frontend=FrontEnd(FeatureConfig()),
        sidecars={"cache": write_cache(folder / "cache", vocab, items)},
    )
    sizes = {"src": size, "tgt": size}
    frozen = build_model({"name": "text_transformer", "norm": "pre", **teacher}, sizes, None)
    frozen.eval().requires_grad_(False)
    ways: dict[str, dict[str, Any]] = {
        OURS: {"name": "cross_entropy", "smoothing": 0.1},
        "teacher in every step": {"name": "distillation", "kd_weight": 0.8},
        "teacher's cache": {"name": "distillation", "kd_weight": 0.8, "sidecar": "cache"},
    }
    return {name: step(keys, student, sizes, items, context, frozen) for name, keys in ways.items()}


def step(
    keys: dict[str, Any],
    student: dict[str, Any],
    sizes: dict[str, int],
    items: list[Item],
    context: CollateContext,
    teacher: Any,
) -> Callable[[], object]:
    """One training step, collation included."""
    torch.manual_seed(1)
    model = build_model({"name": "speech_transformer", **student}, sizes, 80).train()
    objective = build_objective(keys)
    module = ObjectiveModule(model, {"st": objective})
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    state = Context(helpers={"teacher": teacher})

    def once() -> None:
        batch = objective.collate([replace(item) for item in items], context)
        loss, _ = module("st", batch, state, objective.counts(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return once


def main() -> None:
    args = arguments(__doc__, options)
    with tempfile.TemporaryDirectory() as folder:
        case = f"{args.size}, {args.clips} x {args.clip_seconds:g} s"
        results: list[Result] = compare("training step", case, steps(args, Path(folder)), args)
    write(results, args)


if __name__ == "__main__":
    main()
