"""The names that kernels have in a profiler, cut down to what a reader looks for."""

from __future__ import annotations

#: Characters of a name that stands among other words: some names hold all sizes of the kernel.
BRIEF = 60
#: What CUTLASS's Python writes round the name of a kernel's class: before it, and before its arguments.
_WRITTEN_BY_CUTLASS = ("kernel_cutlass_", "_object_at_")


def shortened(name: str, longest: int | None = None) -> str:
    """A kernel's name for display: no template arguments, no parameter list, no return type, no enclosing namespaces.

    `void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, ...>>(Params)` gives
    `pytorch_flash::flash_fwd_kernel`. longest: characters that are left of it, followed by "..."; None leaves all.
    """
    plain, depth = [], 0
    for letter in name.replace("(anonymous namespace)", "anonymous"):
        depth += letter in "<("
        if not depth:
            plain.append(letter)
        depth -= letter in ">)"
    words = "".join(plain).split()
    short = "::".join(words[-1].split("::")[-2:]) if words else name
    before, arguments = _WRITTEN_BY_CUTLASS
    if short.startswith(before):
        short = short.removeprefix(before).partition(arguments)[0]
    return short if longest is None or len(short) <= longest else f"{short[:longest]}..."
