"""The user's own network: `package.module:factory`.

The module is imported because the user named it, and runs with all that it does. It is looked for where Python looks,
and last in the current directory. What it prints goes to standard error: standard output belongs to results.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from ntksap_export.errors import ConfigError


def factory(name: str) -> Callable[..., Any]:
    """What `name` names, imported.

    Raises:
        ConfigError: no such module or attribute, the module fails, or it is nothing that can be called.
    """
    module, path = _split(name)
    found: Any = _module(name, module)
    for step in path.split("."):
        if not hasattr(found, step):
            near = difflib.get_close_matches(step, dir(found), n=2, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"define {step} there"
            where = getattr(found, "__file__", None) or module
            raise ConfigError(f"model '{name}': '{where}' has no '{step}'; {hint}")
        found = getattr(found, step)
    if not callable(found):
        raise ConfigError(
            f"model '{name}': '{path}' is a {type(found).__name__}; name a function or class that returns an nn.Module"
        )
    return found  # type: ignore[no-any-return]


def build(name: str, num_classes: int) -> nn.Module:
    """Call the factory, with `num_classes` if it takes it; draws from torch's random numbers as they stand.

    Raises:
        ConfigError: it fails, or returns no nn.Module.
    """
    make = factory(name)
    options = {"num_classes": num_classes} if _takes_classes(make) else {}
    with _named(f"model '{name}' raised"):
        made = make(**options)
    if not isinstance(made, nn.Module):
        raise ConfigError(f"model '{name}' must return an nn.Module; got {type(made).__name__}")
    return made


def _split(name: str) -> tuple[str, str]:
    module, _, path = name.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise ConfigError(
            f"model '{name}' is not a name: your own is written package.module:factory, as in nets:make for "
            "the function make in nets.py; others are torchvision:NAME and timm:NAME"
        )
    return module, path


def _module(name: str, module: str) -> Any:
    if not sys.flags.safe_path and not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))  # last, so that nothing there stands in the way of an installed module
    importlib.invalidate_caches()
    try:
        with _named(f"importing '{module}' for model '{name}' raised"):
            return importlib.import_module(module)
    except ConfigError as error:
        cause = error.__cause__
        if not isinstance(cause, ModuleNotFoundError) or not f"{module}.".startswith(f"{cause.name}."):
            raise
    if module.endswith(".py"):
        raise ConfigError(
            f"model '{name}' names a file; write the module: {module.removesuffix('.py')}:{name.partition(':')[2]}"
        )
    root = module.split(".")[0]
    raise ConfigError(
        f"model '{name}': no module '{module}' is found; start ntksap in the directory that holds {root}.py or {root}/"
        ", install it, or set PYTHONPATH. Every stage of a run imports it again"
    )


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn whatever the user's code raises into one line that says where it was raised."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        text = str(error).strip().splitlines()
        place = _last_place(error)
        raise ConfigError(f"{what} {type(error).__name__}: {text[0] if text else 'no message'}{place}") from error


def _last_place(error: BaseException) -> str:
    """Where in the user's code it was raised: the last frame that is neither ours nor Python's import machinery."""
    ours = str(Path(__file__).parent) + os.sep
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen", ours)) and Path(frame.filename).parent.name != "importlib"
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


def _takes_classes(make: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):  # some callables written in C tell nothing
        return False
    named = parameters.get("num_classes")
    if named is not None:
        return named.kind in (named.POSITIONAL_OR_KEYWORD, named.KEYWORD_ONLY)
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
