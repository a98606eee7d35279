"""Which package may import from which, and no circle between modules."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

from tests.runs import ROOT

ARROWS = {
    "utils": set(),
    "models": {"utils"},
    "data": {"utils"},
    "exp": {"utils", "models", "data"},
    "paper": {"utils", "exp.record", "exp.config", "models", "data.registry"},  # what runs are
    "main_informer": {"utils", "exp"},
}
FILES = {  # module name -> file
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ARROWS
    for path in [*ROOT.glob(f"{package}.py"), *ROOT.glob(f"{package}/**/*.py")]
}


def imported(path: Path) -> set[str]:
    """Return the modules of this project that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: a relative import would not be seen here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in FILES else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & FILES.keys()


def test_imports_follow_the_arrows_without_a_circle():
    imports = {name: imported(path) - {name} for name, path in FILES.items()}
    assert {name.split(".")[0] for name in FILES} == ARROWS.keys()
    assert "exp.record" in imports["paper.runs"]
    for name, others in imports.items():
        package = name.split(".")[0]
        allowed = {package, *ARROWS[package]}
        against = {other for other in others if not {other, other.split(".")[0]} & allowed}
        assert not against, name
    TopologicalSorter(imports).prepare()  # CycleError names the circle
