"""Two of stk's kernels in a project of one's own."""
