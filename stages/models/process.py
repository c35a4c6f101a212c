"""How a process that trains is set up: to compute the same bits each time, in memory that it keeps."""

import ctypes
import platform

import torch

# Of glibc's malloc.h; mallopt takes an int. Some releases map blocks above 32 MiB whatever they are told.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, MOST, OF_OLD = -1, -3, 2**31 - 1, 2**25


def set_up_process() -> None:
    """Have torch refuse whatever may give other bits another time, round as a CPU does, and keep freed memory."""
    # use_deterministic_algorithms does the same, and imports torch._inductor, which takes two seconds.
    torch.set_deterministic_debug_mode("error")
    # Memory that is not yet written would be filled with NaN, at every one of many small results.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    # By default the LSTMs and convolutions of a GPU round what they multiply to ten bits. The setting that takes this
    # one's place, `fp32_precision`, makes `torch.backends.cudnn.flags` raise an error.
    torch.backends.cudnn.allow_tf32 = False
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have this process use memory again that it freed, and not hand it back after each step.

    By default glibc does hand it back, and each page costs a fault when the next step asks for it: up to a fifth of a
    private step of a transformer, which frees all that it kept at once. Another C library is left as it is.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        if not libc.mallopt(M_MMAP_THRESHOLD, MOST):
            libc.mallopt(M_MMAP_THRESHOLD, OF_OLD)
        libc.mallopt(M_TRIM_THRESHOLD, MOST)
