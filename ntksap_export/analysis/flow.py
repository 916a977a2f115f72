"""Counts of paths that run through a network in place of an image.

A `Flow` is a tensor that any network takes. Whatever is called with it becomes a sum over the edges that lead to a
unit (path_sums.py). Counting, it holds how many paths lead to each unit: float64 numbers with an exponent of their own,
so that no depth overflows. Saturated, it holds 1 where one leads there and 0 elsewhere, and its gradient 1 where a path
leads on to an output: neither vanishes nor grows with depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ntksap_export.analysis.path_sums import ASIS, BOTH, MOVED, NEW, PRODUCTS, SUMS
from ntksap_export.errors import ConfigError
from ntksap_export.quoting import first_line

_NOWHERE = -(10**9)  # the exponent where all counts are 0: any other one is larger
_SOMETHING = 1e-3  # saturated, sums are whole numbers but for rounding, and interpolation's coefficients
_PLAIN = (int, str, torch.Size, torch.dtype, torch.device, torch.layout, type(None))


class Flow(torch.Tensor):
    """Counts at units; made by `flow_of` alone.

    Attributes:
        exponent: the counts are the numbers it holds times 2 ** exponent.
        saturated: whether it only holds 0 and 1.
    """

    exponent: int
    saturated: bool

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return _follow(func, tuple(args), dict(kwargs or {}))


def flow_of(values: torch.Tensor, saturated: bool, exponent: int = 0) -> Flow:
    """A flow with `values` times 2 ** `exponent`, which are at least 0."""
    if saturated:
        values = _Saturated.apply(values)  # type: ignore[no-untyped-call]
    else:
        largest = float(values.max()) if values.numel() else 0.0
        shift = math.frexp(largest)[1]
        values, exponent = values * 2.0**-shift, exponent + shift if largest else _NOWHERE
    flow: Flow = values.as_subclass(Flow)
    flow.exponent, flow.saturated = exponent, saturated
    return flow


def plain(flow: Flow, exponent: int = 0) -> torch.Tensor:
    """The counts as an ordinary tensor, in units of 2 ** `exponent`."""
    with torch._C.DisableTorchFunctionSubclass():
        values = flow.as_subclass(torch.Tensor)
        return values if flow.exponent == exponent else values * 2.0 ** (flow.exponent - exponent)


class _Saturated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return (values > _SOMETHING).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return (gradient > _SOMETHING).to(gradient.dtype)


def _follow(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `func` gives for flows: a flow, or what is no matter of paths."""
    name = func.__name__.strip("_")  # add, add_, __add__ and __iadd__ but for the i are the same here
    flows = list(_flows((args, kwargs)))
    if name in ASIS:
        return flows[0]
    if name in NEW:
        return func(*args, **kwargs)
    if name in SUMS:
        how: Callable[..., Any] = SUMS[name]
    elif name in BOTH:
        terms = (term for term in (*args, *kwargs.values()) if isinstance(term, torch.Tensor))
        how, args, kwargs = _sum_of_all, tuple(_without_constants(list(terms), everything=True)), {}
    elif name in PRODUCTS or name in MOVED or func in _VIEWS:
        how, args, kwargs = PRODUCTS.get(name, func), _without_constants(args), _without_constants(kwargs)
    else:
        return _asked(func, args, kwargs)
    result = _summed(how, flows, args, kwargs)
    if func.__name__.endswith("_") and not func.__name__.startswith("_"):  # in place: others hold the same tensor
        return _written(args[0], result)
    return result


_VIEWS = frozenset({torch.Tensor.T.__get__, torch.Tensor.mT.__get__, torch.Tensor.data.__get__})  # type: ignore[attr-defined]


def _summed(how: Callable[..., Any], flows: list[Flow], args: Any, kwargs: Any) -> Any:
    exponent = max(flow.exponent for flow in flows)
    result = how(*_replaced(args, exponent), **_replaced(kwargs, exponent))
    if isinstance(result, torch.Tensor):
        return flow_of(result, flows[0].saturated, exponent)
    return tuple(flow_of(part, flows[0].saturated, exponent) for part in result)


def _written(target: Flow, result: Flow) -> Flow:
    target.copy_(result.as_subclass(torch.Tensor))
    target.exponent = result.exponent
    return target


def _asked(func: Any, args: Any, kwargs: Any) -> Any:
    """Sizes, types and devices may be asked for; anything else cannot be followed."""
    reason = ""
    try:
        answer = func(*args, **kwargs)
        items = answer if isinstance(answer, tuple) else (answer,)
        if all(isinstance(item, _PLAIN) for item in items):
            return answer
    except (RuntimeError, TypeError, ValueError) as error:
        reason = first_line(error)
    name = "a property" if func.__name__ == "__get__" else f"{func.__name__}()"
    raise ConfigError(f"the paths of this network cannot be followed through {name}{reason and ': '}{reason}")


def _sum_of_all(*terms: torch.Tensor) -> torch.Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _flows(given: Any) -> Iterator[Flow]:
    if isinstance(given, Flow):
        yield given
    elif isinstance(given, tuple | list):
        for part in given:
            yield from _flows(part)
    elif isinstance(given, dict):
        yield from _flows(list(given.values()))


def _replaced(given: Any, exponent: int) -> Any:
    """Flows as plain tensors, all in the same unit."""
    return _mapped(given, lambda part: plain(part, exponent) if isinstance(part, Flow) else part)


def _without_constants(given: Any, everything: bool = False) -> Any:
    """Tensors that no path leads to carry 0; those that select (whole numbers, bools) stay unless `everything` goes."""

    def emptied(part: Any) -> Any:
        if not isinstance(part, torch.Tensor) or isinstance(part, Flow):
            return part
        return torch.zeros_like(part, dtype=torch.float64) if everything or part.is_floating_point() else part

    return _mapped(given, emptied)


def _mapped(given: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(given, tuple | list) and not isinstance(given, torch.Size):
        return type(given)(_mapped(part, change) for part in given)
    if isinstance(given, dict):
        return {key: _mapped(part, change) for key, part in given.items()}
    return change(given)
