"""The commands of ``stk-data`` that exchange models with other libraries: import, export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stk.errors import StkError


def add_to(commands: Any) -> None:
    """Add the commands to ``stk-data``'s subparsers."""
    p = commands.add_parser("import", help="a local model of Hugging Face as a checkpoint")
    p.add_argument("directory", help="config.json, weights and the tokenizer's files")
    p.add_argument("--out", required=True, metavar="DIR", help="checkpoint to write")
    p.add_argument("--languages", nargs="+", metavar="CODE", help="mBART: in the order of ids")
    p.add_argument(
        "--tags", nargs="*", default=[], metavar="CODE=TAG", help="names for languages: fra=fr"
    )
    p.add_argument(
        "--ignore", nargs="*", default=[], metavar="PREFIX", help="wav2vec 2.0: keys to leave"
    )
    p.set_defaults(body=_import)

    p = commands.add_parser("export", help="a checkpoint as a model of another library")
    p.add_argument("checkpoint")
    p.add_argument("--to", choices=("ctranslate2", "huggingface"), required=True)
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--quantization", metavar="TYPE", help="CTranslate2: int8, float16 ...")
    p.set_defaults(body=_export)


def _import(args: argparse.Namespace) -> int:
    from stk.interop.state import read_json

    directory = Path(args.directory)
    if not directory.is_dir():
        raise StkError("no such directory", file=directory, mend="nothing is downloaded")
    if read_json(directory / "config.json").get("model_type") == "wav2vec2":
        return _import_wav2vec2(args)
    from stk.interop.text import read_text_model

    tags = dict(pair.split("=", 1) for pair in args.tags if "=" in pair)
    if len(tags) < len(args.tags):
        raise StkError("--tags are of the form CODE=TAG", mend="such as fra=fr")
    imported = read_text_model(directory, languages=args.languages, tags=tags)
    imported.save(args.out)
    for prefix in imported.absent:
        print(f"not in the file, so as initialised: {prefix}")
    for name in imported.left:
        print(f"left behind: {name}")
    known = {view: ", ".join(vocab.tags) for view, vocab in imported.vocabs.items()}
    for view, vocab in imported.vocabs.items():
        print(f"view {view}: {len(vocab)} ids, languages: {known[view] or 'none'}")
    print(f"{args.out}: {imported.model['name']}")
    return 0


def _import_wav2vec2(args: argparse.Namespace) -> int:
    from stk.interop.wav2vec2 import read_wav2vec2

    imported = read_wav2vec2(args.directory, ignore=args.ignore)
    imported.save(args.out)
    for prefix in imported.absent:
        print(f"not in the file, so as initialised: {prefix}")
    print(f"{args.out}: wav2vec2")
    return 0


def _export(args: argparse.Namespace) -> int:
    from stk.training.checkpoint import load_model

    loaded = load_model(args.checkpoint)
    if args.to == "ctranslate2":
        from stk.interop.ctranslate2 import write_ctranslate2

        write_ctranslate2(loaded, args.out, quantization=args.quantization)
    else:
        from stk.interop.wav2vec2 import write_huggingface
        from stk.models.wav2vec2 import Wav2Vec2

        if not isinstance(loaded.model, Wav2Vec2):
            raise StkError(
                f"a model {loaded.config.model['name']!r} cannot be written for Hugging Face",
                file=args.checkpoint,
                mend="wav2vec2 can; text_transformer can be written for CTranslate2",
            )
        write_huggingface(loaded.model, args.out)
    print(f"{args.out}: {args.to}")
    return 0
