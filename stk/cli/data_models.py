"""The commands of ``stk-data`` that run a model over a manifest: teacher, bert."""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path
from typing import Any

from stk.cli.common import progress
from stk.data.example import Example
from stk.data.manifest import Manifest


def add_to(commands: Any) -> None:
    """Add the commands to ``stk-data``'s subparsers."""
    p = commands.add_parser("teacher", help="a teacher's most probable tokens, as a sidecar")
    p.add_argument("manifest", nargs="+", help="rows with what the teacher reads and writes")
    p.add_argument("--checkpoint", required=True, metavar="DIR", help="of the teacher")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--top", type=int, default=8, metavar="K", help="tokens kept a position (8)")
    p.add_argument("--task", metavar="NAME", help="training stream of the teacher (the first)")
    p.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda ... (cpu)")
    p.set_defaults(body=_teacher)

    p = commands.add_parser("bert", help="BERT features of a text, as a sidecar")
    p.add_argument("manifest", nargs="+")
    p.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="a local Hugging Face model, or a run of language_model",
    )
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--field", choices=("src_text", "tgt_text"), default="src_text")
    p.add_argument("--pooled", action="store_true", help="one vector a sentence")
    p.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda ... (cpu)")
    p.set_defaults(body=_bert)


def _examples(args: argparse.Namespace) -> list[Example]:
    return list(chain.from_iterable(Manifest(path) for path in args.manifest))


def _bert(args: argparse.Namespace) -> int:
    from stk.decoding.bert import write_own_bert_features
    from stk.interop.bert import write_bert_features

    hugging_face = (Path(args.model) / "config.json").is_file() or not Path(args.model).is_dir()
    write = write_bert_features if hugging_face else write_own_bert_features
    count = write(
        args.model,
        _examples(args),
        args.out,
        field=args.field,
        pooled=args.pooled,
        device=args.device,
        track=lambda batches: progress(batches, title="bert"),
    )
    print(f"{args.out}: {count} rows")
    return 0


def _teacher(args: argparse.Namespace) -> int:
    from stk.decoding.teacher import write_teacher

    count = write_teacher(
        args.checkpoint,
        _examples(args),
        args.out,
        top=args.top,
        task=args.task,
        device=args.device,
        track=lambda batches: progress(batches, title="teacher"),
    )
    print(f"{args.out}: {count} rows")
    return 0
