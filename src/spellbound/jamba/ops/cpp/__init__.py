"""The CPU kernels in C++ (``csrc``), called through ctypes on raw pointers. They know nothing of torch."""
