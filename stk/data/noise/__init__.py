"""Noise on token ids: pure functions of (tokens, generator) that never change what they are given.

Tokens are 1-D int64 arrays of one row, a :class:`numpy.random.Generator` is the row's own, and
every function returns new arrays. Masking and infilling, which every batch of pre-training needs,
also come over all rows of a batch at once (``mask_rows``, ``infill_rows``), with the same result.
Ids below :attr:`~stk.data.noise.symbols.Symbols.first` (padding, begin, end, mask, tags) are no
text: no noise chooses, drops or moves them, unless it says so.
"""
