"""stk: end-to-end speech translation, text NMT, their pre-training, and fused kernels."""

__version__ = "0.1.0"
