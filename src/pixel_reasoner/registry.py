"""Registry of extension points: operations, dialects, benchmarks, sources, rewards, ...

    OPERATIONS = Registry[OperationSpec]("operation", package="pixel_reasoner.operations")

An item is registered in the module that defines it, so adding an item changes one file:

    OPERATIONS.register("rotate", RotateSpec)          # in a module of the package
    [project.entry-points."pixel_reasoner.operations"] # in another distribution
    rotate = "my_package.rotate:ROTATE"

Imports happen on the first lookup. A plug-in that fails on import raises an error when its own name is looked up. It
never affects other plug-ins.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from importlib import metadata
from threading import RLock
from typing import Generic, TypeVar

from pixel_reasoner.errors import PluginError, UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Named items of one kind, from this package and from entry points of others.

    Args:
        kind: name of an item in messages, for example `operation`.
        package: package whose modules register items when they are imported; empty for none.
        group: entry point group of other distributions; by default `pixel_reasoner.<kind>s`.
        plural: of `kind`, if it is irregular.

    >>> colours = Registry[int]("colour")
    >>> colours.register("red", 0xFF0000)
    16711680
    >>> colours.get("red") == 0xFF0000
    True
    >>> colours.get("rad")
    Traceback (most recent call last):
        ...
    pixel_reasoner.errors.UnknownNameError: expected a colour: red; got 'rad'. Fix: use 'red', the nearest name
    """

    def __init__(self, kind: str, package: str = "", group: str = "", plural: str = "") -> None:
        self.kind = kind
        self.plural = plural or f"{kind}s"
        self.package = package
        self.group = group or f"pixel_reasoner.{self.plural.replace(' ', '_')}"
        self._items: dict[str, T] = {}
        self._entry_points: dict[str, metadata.EntryPoint] = {}
        self._is_loaded = self._is_loading = False
        self._lock = RLock()  # a module that is being imported may look up a name

    def register(self, name: str, item: T) -> T:
        """Add an item and return it.

        Raises:
            PluginError: another item has this name.
        """
        if self._items.get(name, item) is not item:
            raise PluginError(
                expected=f"one {self.kind} named {name!r}",
                got="two",
                fix=f"rename the {self.kind} of your package",
            )
        self._items[name] = item
        return item

    def unregister(self, name: str) -> None:
        """Remove an item, for example at the end of a test."""
        self._items.pop(name, None)

    def get(self, name: str) -> T:
        """Return the item with a name.

        Raises:
            UnknownNameError: no such item; the message lists the nearest names.
            PluginError: the plug-in that provides it cannot be imported.
        """
        self._load()
        if name not in self._items and name in self._entry_points:
            self._items[name] = self._import(self._entry_points[name])
        if name not in self._items:
            raise self._unknown(name)
        return self._items[name]

    def names(self) -> list[str]:
        """Return all names: built-in names in order of registration, then names of plug-ins."""
        self._load()
        return list(dict.fromkeys([*self._items, *self._entry_points]))

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield names and items. Plug-ins that cannot be imported are left out (`broken`)."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except PluginError:
                continue

    def broken(self) -> dict[str, PluginError]:
        """Return the error of each plug-in that cannot be imported, by name."""
        found = {}
        for name in self.names():
            try:
                self.get(name)
            except PluginError as error:
                found[name] = error
        return found

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items or name in self._entry_points

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def _load(self) -> None:
        if self._is_loaded:
            return
        with self._lock:
            if self._is_loaded or self._is_loading:
                return
            self._is_loading = True
            if self.package:
                package = importlib.import_module(self.package)
                for module in pkgutil.iter_modules(package.__path__):
                    if not module.name.startswith("_"):
                        importlib.import_module(f"{self.package}.{module.name}")
            for entry_point in metadata.entry_points(group=self.group):
                self._entry_points.setdefault(entry_point.name, entry_point)
            self._is_loaded = True

    def _import(self, entry_point: metadata.EntryPoint) -> T:
        try:
            item: T = entry_point.load()
        except Exception as error:
            raise PluginError(
                expected=f"the {self.kind} {entry_point.name!r} of {entry_point.value}",
                got=f"{type(error).__name__}: {error}",
                fix="repair or uninstall the package that provides it",
            ) from error
        return item

    def _unknown(self, name: str) -> UnknownNameError:
        names = self.names()
        nearest = difflib.get_close_matches(name, names, 3, 0.5)
        fix = (
            f"use {' or '.join(map(repr, nearest))}, the nearest name{'s' * (len(nearest) > 1)}"
            if nearest
            else "use one of these"
        )
        listed = ", ".join(names) or "none is registered"
        article = "an" if self.kind[0] in "aeio" else "a"
        return UnknownNameError(
            expected=f"{article} {self.kind}: {listed}", got=repr(name), fix=fix
        )
