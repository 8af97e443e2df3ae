"""Reference twins of the compiled kernels in NumPy or plain Python: same names, same results, no speed."""
