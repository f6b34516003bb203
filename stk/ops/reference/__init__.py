"""Plain-PyTorch twins of the kernels: same signatures, same results, any dtype, any device."""
