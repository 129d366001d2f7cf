"""Registry of extension points: operations, dialects, benchmarks, sources, rewards, ...

    OPERATIONS = Registry[OperationSpec]("operation", package="pixel_reasoner.operations")

An item is registered in the module that defines it, so adding an item changes one file:

    OPERATIONS.register("rotate", RotateSpec)          # in a module of the package
    [project.entry-points."pixel_reasoner.operations"] # in another distribution
    rotate = "my_package.rotate:ROTATE"

Nothing is imported before a name is looked up. A plug-in that fails on import or that is no valid item (`plugin_checks`)
raises an error when its own name is looked up, and never affects another. A plug-in with the name of an item of this
package is ignored, with a warning.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import pkgutil
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import metadata
from threading import RLock
from typing import Any, Generic, TypeVar, overload

from pixel_reasoner.errors import PluginError, UnknownNameError, one_line

logger = logging.getLogger(__name__)

T = TypeVar("T")
F = TypeVar("F")
Check = Callable[[str, Any], None]
"""(name, item) -> None; raises `PluginError` where the item cannot be used"""


class Registry(Generic[T]):
    """Named items of one kind, from this package and from entry points of others.

    Args:
        kind: name of an item in messages, for example `operation`.
        package: package whose modules register items when they are imported; empty for none.
        group: entry point group of other distributions; by default `pixel_reasoner.<kind>s`.
        plural: of `kind`, where adding an s is wrong.
        check: is called for every item that is added (`plugin_checks`).

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

    def __init__(
        self,
        kind: str,
        package: str = "",
        group: str = "",
        plural: str = "",
        check: Check = lambda name, item: None,
    ) -> None:
        self.kind = kind
        self.plural = plural or f"{kind}s"
        self.package = package
        self.group = group or f"pixel_reasoner.{self.plural.replace(' ', '_')}"
        self._check = check
        self._items: dict[str, T] = {}
        self._used: set[str] = set()
        """names whose plug-in was looked for"""
        self._ignored: dict[str, PluginError] = {}
        self._is_loaded = self._is_loading = False
        self._lock = RLock()  # a module that is being imported may look up a name

    def register(self, name: str, item: T) -> T:
        """Add an item and return it.

        Raises:
            PluginError: another item has this name, or the item cannot be used.
        """
        self._check(name, item)
        if self._items.get(name, item) is not item:
            raise self._clash(name, "this one and one that is registered already")
        self._items[name] = item
        return item

    @overload
    def decorator(self, item: F) -> F: ...
    @overload
    def decorator(self, *, name: str = "") -> Callable[[F], F]: ...
    def decorator(self, item: Any = None, *, name: str = "") -> Any:
        """Register a function or class; usable with and without parentheses.

        Args:
            item: what is decorated.
            name: by default the name of the function or class.

        >>> rewards = Registry[Callable[[], float]]("reward", group="none")
        >>> @rewards.decorator(name="one")
        ... def give_one() -> float:
        ...     return 1.0
        >>> rewards.names()
        ['one']
        """
        if item is None:
            return lambda one: self.register(name or one.__name__, one)
        return self.register(item.__name__, item)

    def unregister(self, name: str) -> None:
        """Remove an item, for example at the end of a test."""
        self._items.pop(name, None)
        self._used.discard(name)

    def get(self, name: str) -> T:
        """Return the item with a name.

        Raises:
            UnknownNameError: there is none; the nearest names are listed.
            PluginError: the plug-in that provides it cannot be used, or two have this name.
        """
        self._load()
        if name not in self._used:
            if name in self._plugins():
                with self._lock:
                    self._load_plugin(name)
            elif name not in self._items:
                raise self._unknown(name)
            self._used.add(name)
        return self._items[name]

    def names(self) -> list[str]:
        """Return all names: built-in names in order of registration, then names of plug-ins."""
        self._load()
        return list(dict.fromkeys([*self._items, *self._plugins()]))

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield names and items. Plug-ins that cannot be used are left out (`broken`)."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except PluginError:
                continue

    def plugins(self) -> dict[str, str]:
        """Return the names that other distributions provide, and where: `rotate:ROTATE of my-package 1.0`."""
        self._load()
        return {name: _place(one[0]) for name, one in self._plugins().items()}

    def broken(self) -> dict[str, PluginError]:
        """Return the error of each plug-in that cannot be used, or is ignored, by name."""
        found = {}
        for name in self.names():
            try:
                self.get(name)
            except PluginError as error:
                found[name] = error
        return self._ignored | found

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items or name in self._plugins()

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
            self._is_loaded = True

    def _plugins(self) -> dict[str, list[metadata.EntryPoint]]:
        return _entry_points(self.group, tuple(sys.path))

    def _load_plugin(self, name: str) -> None:
        """Add the item of a plug-in. Nothing is added where it cannot be used.

        Raises:
            PluginError: it cannot be imported or used, or two plug-ins have this name.
        """
        first, *others = self._plugins()[name]
        if name in self._items and first.module not in sys.modules:  # so it is another item
            self._ignored[name] = self._clash(name, f"that of pixel-reasoner and {_place(first)}")
            logger.warning("ignored: %s", self._ignored[name])
            return
        if others:
            raise self._clash(name, f"{_place(first)} and {_place(others[0])}")
        before = dict(self._items)
        try:
            self._items[name] = self._import(first)
        except PluginError:
            self._items = before
            raise

    def _import(self, entry_point: metadata.EntryPoint) -> T:
        place = _place(entry_point)
        try:
            item: T = entry_point.load()
            self._check(entry_point.name, item)
        except PluginError as error:
            raise PluginError(
                expected=error.expected, got=f"{error.got}, in {place}", fix=error.fix
            ) from error
        except (Exception, SystemExit) as error:
            raise PluginError(
                expected=f"the {self.kind} {entry_point.name!r} of {place}",
                got=f"{type(error).__name__}: {one_line(error)}",
                fix="repair or uninstall the package that provides it",
            ) from error
        return item

    def _clash(self, name: str, places: str) -> PluginError:
        return PluginError(
            expected=f"one {self.kind} named {name!r}",
            got=f"two: {places}",
            fix=f"rename the {self.kind} of your package",
        )

    def _unknown(self, name: str) -> UnknownNameError:
        names = self.names()
        nearest = difflib.get_close_matches(name, names, 3, 0.5)
        fix = (
            f"use {' or '.join(map(repr, nearest))}, the nearest name{'s' * (len(nearest) > 1)}"
            if nearest
            else "use one of these, or install the package that provides it"
        )
        listed = ", ".join(names) or "none is registered"
        article = "an" if self.kind[0] in "aeio" else "a"
        return UnknownNameError(
            expected=f"{article} {self.kind}: {listed}", got=repr(name), fix=fix
        )


@lru_cache  # it reads a file of every installed distribution; `sys.path` may change
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, list[metadata.EntryPoint]]:
    """Return the entry points of a group by name."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for one in _all_entry_points(path).select(group=group):
        found.setdefault(one.name, []).append(one)
    return found


@lru_cache(maxsize=1)
def _all_entry_points(path: tuple[str, ...]) -> Any:
    """Return the entry points of all distributions below `sys.path`."""
    del path
    return metadata.entry_points()


def _place(entry_point: metadata.EntryPoint) -> str:
    """Return where a plug-in is: module, attribute and distribution."""
    dist = entry_point.dist
    return entry_point.value + (f" of {dist.name} {dist.version}" if dist is not None else "")
