"""From `module:app` on the command line to the App: the user's module imported, and whatever goes wrong in it told.

Decides which line of whose code an error is blamed on. Invariant: whatever the module raises is one line that names the
target, and the place in the user's own files where there is one; an interrupt stays an interrupt.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any, cast

from headrace import App
from headrace._runtime.process import loaded_by_a_command
from headrace.cli.exits import Unusable
from headrace.errors import HeadraceError

_INSTALLED = frozenset({"site-packages", "dist-packages"})


def load_app(target: str) -> App:
    """Import the app; raises `Unusable` with what is wrong."""
    # "" stands for the working directory, as it does for `python -m`; kept if it is there already.
    if "" not in sys.path:
        sys.path.insert(0, "")
    module_name, separator, attribute = target.partition(":")
    if not separator or not module_name or not attribute:
        raise Unusable(f"{target}: expected module:attribute, such as billing:app")
    found = _imported(target, module_name)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Unusable(f"{target}: module {module_name!r} has no {attribute!r}") from None
    if not isinstance(found, App):
        raise Unusable(f"{target}: is {kind_of(found)}, not a headrace.App")
    return found


def _imported(target: str, module_name: str) -> Any:
    try:
        with loaded_by_a_command():
            return importlib.import_module(module_name)
    except HeadraceError as error:
        problem, cause = str(error), cast("BaseException", error)
    except SyntaxError as error:
        place = f"{error.filename}:{error.lineno}: " if error.filename else ""
        raise Unusable(f"{target}: {_short(place)}{type(error).__name__}: {error.msg}") from error
    except ImportError as error:
        problem, cause = f"cannot import {module_name!r}: {error}", error
    except Exception as error:  # noqa: BLE001 - whatever it was, the user gets a line
        problem, cause = f"importing it raised {type(error).__name__}: {error}", error
    except SystemExit as error:
        problem, cause = f"importing it called sys.exit({error.code!r})", error
    raise Unusable(f"{target}: {_place(cause)}{problem}") from cause


def _place(error: BaseException) -> str:
    """Where the user's own files raised it, or called what did, as `file:line: `; empty if no file of theirs had a part."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_pythons_or_ours(frame.filename)]
    # An app may be installed like a library. Then its module is where the import began.
    local = [frame for frame in theirs if not _INSTALLED.intersection(Path(frame.filename).parts)]
    blamed = local[-1:] or theirs[:1]
    return "".join(_short(f"{frame.filename}:{frame.lineno}: ") for frame in blamed)


def _is_pythons_or_ours(filename: str) -> bool:
    if filename.startswith(("<", f"{Path(__file__).parents[1]}{os.sep}")):
        return True
    inside = Path(filename).is_relative_to(sysconfig.get_path("stdlib"))
    return inside and not _INSTALLED.intersection(Path(filename).parts)


def _short(path: str) -> str:
    return path.removeprefix(f"{Path.cwd()}{os.sep}")


def kind_of(found: object) -> str:
    """What something is, for somebody who expected an App there."""
    if isinstance(found, type):
        return f"the class {found.__name__}"
    if callable(found):
        return "a function"
    name = type(found).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
