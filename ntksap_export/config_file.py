"""Settings in a TOML file, its keys named as the flags are."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ntksap_export.config import RunConfig, flag_name, unknown_key
from ntksap_export.errors import ConfigError


def read_toml(path: Path) -> dict[str, Any]:
    """The keys of a TOML file, as flags are named (`batch-size` or `batch_size`).

    Raises:
        ConfigError: no such file, not TOML, or an unknown key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"--config: no such file '{path}'") from None
    except OSError as error:
        raise ConfigError(f"--config '{path}' cannot be read: {error.strerror}; name a TOML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"--config '{path}' is not TOML: {error}") from None
    values, _ = parse_toml(text, f"--config '{path}'")
    return values


def parse_toml(text: str, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keys of a TOML text, with underscores, and its table `about`, which is for readers and may be missing.

    Args:
        text: of the file.
        where: what it is, for errors.

    Raises:
        ConfigError: not TOML, or an unknown key.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not TOML: {error}") from None
    about = table.pop("about") if isinstance(table.get("about"), dict) else {}
    values = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in RunConfig.model_fields and name != "density":
            raise ConfigError(f"{where}: {unknown_key(key)}")
        if name in values:
            raise ConfigError(f"{where} has '{flag_name(name)}' twice, with - and with _; leave one of them away")
        values[name] = value
    return values, about
