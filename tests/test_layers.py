"""The layers: imports point down only, and the core knows neither FUSE nor trio."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lffs

PACKAGE = Path(lffs.__file__).parent

# From the bottom up; a module may import those of its own layer and of the layers before it.  A name
# stands for the modules below it too; what is not named lies as low as its own imports let it.
LAYERS = [
    # words and system calls
    ["errors", "model", "units", "clock", "process", "syscalls", "progress", "work", "mounting.table",
     "mounting.systemd", "located_yaml", "metrics", "state_dir", "handles", "library.records", "classify",
     "config", "control.api", "control.protocol"],
    ["manifest.records", "manifest.store"],
    ["jobs", "directories", "cleanup.plan"],
    ["cleanup", "manifest"],
    ["backing"],
    ["fs"],
    ["control.admin"],
    # from here on processes, sockets, trio and FUSE
    ["threads", "control.client", "mounting.background", "mounting.options", "mounting.unmounting"],
    ["transport", "control.server", "reaper", "backing_up"],
    ["daemon"],
    ["cli"],
]  # fmt: skip
CORE_LAYERS = 7


def all_modules() -> Iterator[str]:
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [module for module in all_modules() if module]


def named_layer(module: str) -> int | None:
    """The layer that names the module, or else the nearest package above it."""
    while module:
        for rank, names in enumerate(LAYERS):
            if module in names:
                return rank
        module = module.rpartition(".")[0]
    return None


@functools.cache
def layer(module: str) -> int:
    named = named_layer(module)
    if named is None:
        return max(map(layer, imported(source(module), for_types=False)), default=0)
    return named


def source(module: str) -> ast.Module:
    file = PACKAGE.joinpath(*module.split("."))
    return ast.parse((file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_bytes())


def imported(node: ast.AST, *, for_types: bool) -> Iterator[str]:
    """The modules of lffs that are imported in *node*, those for type checkers alone if asked."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not for_types:
            continue
        if isinstance(child, ast.ImportFrom) and child.module and child.module.split(".")[0] == "lffs":
            base = child.module.removeprefix("lffs").lstrip(".")
            for alias in child.names:
                inside = f"{base}.{alias.name}".lstrip(".")
                if inside in MODULES:
                    yield inside
                elif base:
                    yield base
        elif isinstance(child, ast.Import):
            yield from (
                name.name.removeprefix("lffs.") for name in child.names if name.name.startswith("lffs.")
            )
        else:
            yield from imported(child, for_types=for_types)


def test_every_name_in_the_table_is_a_module() -> None:
    named = {name for names in LAYERS for name in names}
    assert named <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_only(module: str) -> None:
    for other in imported(source(module), for_types=True):
        assert layer(other) <= layer(module), f"{module} imports {other}, which lies above it"


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {module: set(imported(source(module), for_types=False)) for module in MODULES}
    finished: set[str] = set()

    def visit(module: str, on_the_way: tuple[str, ...]) -> None:
        assert module not in on_the_way, " → ".join((*on_the_way, module))
        if module not in finished:
            for other in graph[module]:
                visit(other, (*on_the_way, module))
            finished.add(module)

    for module in MODULES:
        visit(module, ())


def test_the_core_runs_where_there_is_neither_pyfuse3_nor_trio() -> None:
    """So it can be tested without a mount, and another transport is an adapter."""
    core = [f"lffs.{module}" for module in MODULES if layer(module) < CORE_LAYERS]
    assert "lffs.fs.filesystem" in core
    code = (
        "import importlib, sys\n"
        "sys.modules['pyfuse3'] = sys.modules['trio'] = None\n"  # importing them is ImportError now
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *core], check=False, capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert (done.returncode, done.stderr) == (0, "")
