"""Strict construction of configuration dataclasses from YAML and dotted overrides.

OmegaConf reads YAML, merges overrides and resolves interpolations; this module turns the
resulting plain data into frozen dataclasses and refuses whatever does not fit: an unknown key
(with the nearest known one), a missing key, a value of another type.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from stk.errors import StkError

T = TypeVar("T")


def load_mapping(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file and merge dotted overrides such as ``optim.lr=1e-4`` into it.

    Args:
        path: YAML file whose top level is a mapping. ``base: other.yaml`` (relative to the
            file) loads another file first, over which this one's keys are merged; of a list of
            files each is merged over those before it.
        overrides: ``key.sub=value`` strings, ``key[0].sub=value`` for an entry of a list; the
            value is parsed as YAML.

    Returns:
        Plain nested dictionaries, lists and scalars, interpolations resolved.

    Raises:
        StkError: missing file, YAML that does not parse, an override without ``=`` or for a place
            that cannot be.
    """
    config = _read(Path(path), seen=())
    for override in overrides:
        _override(config, override)
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise StkError(f"configuration does not resolve: {error}", file=path) from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _override(config: Any, override: str) -> None:
    """Merge one ``key=value`` into the configuration, in place."""
    key, sign, value = override.partition("=")
    if not sign:
        raise StkError(f"override {override!r} is not of the form key=value")
    try:
        parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
        OmegaConf.update(config, key.strip(), parsed["value"], merge=True)
    except Exception as error:  # OmegaConf, its YAML parser and Python's containers all raise here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StkError(f"override {override!r} does not fit: {reason}") from error


def _read(path: Path, seen: tuple[Path, ...]) -> Any:
    if not path.is_file():
        raise StkError("no such configuration file", file=path)
    if path.resolve() in seen:
        raise StkError("configuration files name each other as base in a circle", file=path)
    try:
        config = OmegaConf.load(path)
    except Exception as error:  # OmegaConf passes on whatever its YAML parser raises
        raise StkError(f"not valid YAML: {error}", file=path) from error
    if not isinstance(config, DictConfig):
        raise StkError("the top level must be a mapping of keys", file=path)
    base = config.pop("base", None)
    if base is None:
        return config
    names = list(base) if isinstance(base, ListConfig) else [base]
    parts = [_read(path.parent / str(name), (*seen, path.resolve())) for name in names]
    return OmegaConf.merge(*parts, config)


def build(cls: type[T], data: Mapping[str, Any], *, where: str = "", file: Any = None) -> T:
    """Construct a configuration dataclass from plain data, strictly.

    Args:
        cls: a dataclass whose fields are annotated with scalars, ``Literal``, ``X | None``,
            ``tuple[X, ...]``, ``dict[str, X]`` or further dataclasses.
        data: plain nested data, as :func:`load_mapping` returns it.
        where: dotted name of this part within the whole, for messages.
        file: the file it came from, for messages.

    Raises:
        StkError: unknown key (names the nearest), missing key, value of a wrong type, and
            whatever ``__post_init__`` of the dataclass raises as ``StkError`` or ``ValueError``.
    """
    if not isinstance(data, Mapping):
        raise StkError(f"{where or 'configuration'}: expected keys, found {data!r}", file=file)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)
            mend = f"nearest known key: {near[0]}" if near else "it takes no keys"
            raise StkError(f"unknown key {_join(where, str(key))!r}", file=file, mend=mend)
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], _join(where, name), file)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise StkError(f"missing key {_join(where, name)!r}", file=file, mend="add it")
    try:
        return cls(**values)
    except ValueError as error:
        raise StkError(f"{where + ': ' if where else ''}{error}", file=file) from error


def to_plain(config: Any) -> Any:
    """Turn a configuration dataclass back into plain dictionaries, lists and scalars."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(key): to_plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    return config


def to_yaml(config: Any) -> str:
    """Write a configuration dataclass as YAML that :func:`build` reads back unchanged."""
    return OmegaConf.to_yaml(OmegaConf.create(to_plain(config)))


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _convert(kind: Any, value: Any, where: str, file: Any) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(kind), value, where, file)
    if origin is Literal:
        if value in get_args(kind) and type(value) in {type(a) for a in get_args(kind)}:
            return value
        allowed = ", ".join(map(str, get_args(kind)))
        raise StkError(f"{where}: {value!r} is not one of {allowed}", file=file)
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where=where, file=file)  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(get_args(kind), value, where, file)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise StkError(f"{where}: expected keys, found {value!r}", file=file)
        inner = get_args(kind)[1]
        return {str(k): _convert(inner, v, _join(where, str(k)), file) for k, v in value.items()}
    return _convert_scalar(kind, value, where, file)


def _convert_union(kinds: tuple[Any, ...], value: Any, where: str, file: Any) -> Any:
    if value is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    if len(rest) == 1:
        return _convert(rest[0], value, where, file)
    for kind in rest:
        try:
            return _convert(kind, value, where, file)
        except StkError:
            continue
    names = ", ".join(getattr(kind, "__name__", str(kind)) for kind in rest)
    raise StkError(f"{where}: {value!r} is none of {names}", file=file)


def _convert_tuple(kinds: tuple[Any, ...], value: Any, where: str, file: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise StkError(f"{where}: expected a list, found {value!r}", file=file)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise StkError(f"{where}: expected {len(kinds)} values, found {len(value)}", file=file)
    return tuple(
        _convert(kind, item, f"{where}[{i}]", file)
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _convert_scalar(kind: Any, value: Any, where: str, file: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-4 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    found = f"{value!r} ({type(value).__name__})"
    raise StkError(f"{where}: expected {kind.__name__}, found {found}", file=file)
