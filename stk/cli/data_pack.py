"""The command ``stk-data pack``: sentences of documents, or of streams, as long rows."""

from __future__ import annotations

import argparse
from itertools import chain
from typing import Any

from stk.data.manifest import Manifest, write_manifest


def add_to(commands: Any) -> None:
    """Add the command to ``stk-data``'s subparsers."""
    p = commands.add_parser("pack", help="join the sentences of a document into long rows")
    p.add_argument("manifest", nargs="+", help="sentences in reading order, with the key doc")
    p.add_argument("--out", required=True, metavar="FILE", help="manifest to write")
    p.add_argument("--vocab", required=True, metavar="DIR", help="that training uses")
    p.add_argument(
        "--target-vocab", metavar="DIR", help="of the target, where both texts are packed (--vocab)"
    )
    p.add_argument("--field", choices=("src_text", "tgt_text", "both"), default="src_text")
    p.add_argument(
        "--continuous",
        action="store_true",
        help="join all sentences of a language, and cut within sentences: full rows",
    )
    p.add_argument("--limit", type=int, default=512, metavar="N", help="tokens of a row (512)")
    p.set_defaults(body=_pack)


def _pack(args: argparse.Namespace) -> int:
    from stk.data.packing import cut_streams, pack_documents, pack_pairs
    from stk.data.vocab import load_vocab
    from stk.errors import StkError

    if args.continuous and args.field == "both":
        raise StkError("--continuous is of one text", mend="--field src_text or tgt_text")
    if args.limit < 3:
        raise StkError(f"--limit {args.limit} holds no sentence", mend="512 is usual")

    examples = chain.from_iterable(Manifest(path) for path in args.manifest)
    vocab = load_vocab(args.vocab)
    if args.field == "both":
        target = load_vocab(args.target_vocab) if args.target_vocab else vocab
        packed = pack_pairs(examples, vocab, target, limit=args.limit)
    elif args.continuous:
        packed = cut_streams(examples, vocab, text=args.field, limit=args.limit)
    else:
        packed = pack_documents(examples, vocab, text=args.field, limit=args.limit)
    print(f"{args.out}: {write_manifest(args.out, packed)} rows")
    return 0
