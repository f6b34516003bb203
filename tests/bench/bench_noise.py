"""Noise on a batch of 4,096 tokens: masking, substitution and infilling, on one core.

Run: ``OMP_NUM_THREADS=1 python tests/bench/bench_noise.py [--csv FILE]``. Rows of 32, 128 and 512
tokens make up the batch; ``all`` is the three one after another, whose bound is 5 ms. Substitution
works on the row's text (a lexicon of 1,000 words, rate 0.3), before it is cut into pieces; it has
met the 2,000 words of the texts before, as it has most of a corpus's after its first batches.
"""

from __future__ import annotations

import numpy as np
from harness import OURS, Result, arguments, compare, write

from stk.data.lexicon import Lexicon
from stk.data.noise.infilling import infill_rows
from stk.data.noise.masking import frequency_weights, mask_rows
from stk.data.noise.symbols import Symbols
from stk.data.substitution import Substitution

TOKENS, SIZE, FIRST = 4096, 32000, 20


def main() -> None:
    """Time each noiser alone and all three together, by length of row."""
    args = arguments(__doc__)
    generator = np.random.default_rng(1)
    generators = [np.random.default_rng((1, i)) for i in range(TOKENS // 32)]  # each row's own
    starts = generator.random(SIZE) < 0.7
    starts[:FIRST] = False
    symbols = Symbols(mask=4, first=FIRST, size=SIZE, starts=starts)
    weights = frequency_weights(generator.zipf(1.5, SIZE))
    pairs = [(f"word{i}", f"wort{i}.{j}") for i in range(1000) for j in range(3)]
    substitution = Substitution({"en": {"de": Lexicon.of_pairs(pairs)}}, rate=0.3)
    results: list[Result] = []
    for length in (32, 128, 512):
        rows = [generator.integers(FIRST, SIZE, length) for _ in range(TOKENS // length)]
        texts = [" ".join(f"word{i % 2000}" for i in row[symbols.starts[row]]) for row in rows]

        def masking(rows: list[np.ndarray] = rows) -> None:
            mask_rows(rows, generators[: len(rows)], symbols, weights=weights)

        def infilling(rows: list[np.ndarray] = rows) -> None:
            infill_rows(rows, generators[: len(rows)], symbols)

        def substituting(texts: list[str] = texts) -> None:
            for text, own in zip(texts, generators, strict=False):
                substitution(text, "en", own)

        def together(m=masking, s=substituting, i=infilling) -> None:  # type: ignore[no-untyped-def]
            m()
            s()
            i()

        for name, function in (
            ("all", together),
            ("masking", masking),
            ("substitution", substituting),
            ("infilling", infilling),
        ):
            results += compare("noise", f"{name} {length}", {OURS: function}, args)
    write(results, args)


if __name__ == "__main__":
    main()
