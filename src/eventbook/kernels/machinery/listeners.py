"""Who listens to a call: if nobody does, a kernel may be called past torch's dispatcher.

An operator that autograd, compilers, transforms and modes can see costs some 30 microseconds a call, more
than a small product. They all have to see it only where they are at work:

| listener | how it is noticed |
|---|---|
| `torch.compile`, `torch.export`, `torch.jit.trace` | a flag, a tracing state |
| autograd | gradients are enabled and an argument asks for one |
| forward-mode derivatives, `vmap` and the other transforms of `torch.func` | a level |
| modes: fake tensors, proxies, counters of operations, a default device | a stack of them that is not empty |
| subclasses of tensors | the type of an argument |
"""

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

try:  # torch has no public names for these questions
    from torch._C import (
        _get_tracing_state,
        _len_torch_dispatch_stack,
        _len_torch_function_stack,
    )
    from torch._C._functorch import peek_interpreter_stack

    _CAN_ASK = hasattr(forward_ad, "_current_level")
except ImportError:  # a torch that has renamed them: somebody may always be listening
    _CAN_ASK = False

_KINDS = (Tensor, nn.Parameter)


def nobody_listens(*tensors: Tensor) -> bool:
    """True if the call is plain arithmetic on plain tensors, of which nobody takes notes.

    Parameters
    ----------
    tensors
        All of the call. What is no tensor at all makes it False: the way through the operator has checks
        that say so.

    Examples
    --------
    >>> x = torch.ones(3, requires_grad=True)
    >>> nobody_listens(x), nobody_listens(x.detach())
    (False, True)
    >>> with torch.no_grad():
    ...     nobody_listens(x)
    True
    """
    if (
        not _CAN_ASK
        or torch.compiler.is_compiling()  # first: compilers know this question, and not the others
        or peek_interpreter_stack() is not None
        or _len_torch_dispatch_stack()
        or _len_torch_function_stack()
        or _get_tracing_state() is not None
        or forward_ad._current_level >= 0
    ):
        return False
    differentiable = torch.is_grad_enabled()
    for tensor in tensors:
        if type(tensor) not in _KINDS or (differentiable and tensor.requires_grad):
            return False
    return True
