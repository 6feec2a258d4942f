"""The floors of the house: who may import whom, and what may be imported at all."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

# Top to bottom. A module imports only from floors below its own, or from its own package.
FLOORS = [
    {"streamlit_app"},
    {"pages"},
    {"cxr_core.ui"},
    {"cxr_core.cli"},
    {"cxr_core.doctor"},
    {"cxr_core.cluster"},
    {"cxr_core.training", "cxr_core.service"},
    {"cxr_core.diagnosis"},
    {"cxr_core.evaluation", "cxr_core.zoo", "cxr_core.data"},
    {"cxr_core.figures", "cxr_core.images", "cxr_core.config", "cxr_core.workspace"},
    {"cxr_core.errors", "cxr_core"},
]
USES_TENSORFLOW = {
    "cxr_core.zoo",
    "cxr_core.data.batches",
    "cxr_core.training.teachers",
    "cxr_core.training.trainer",
    "cxr_core.training.fitting",
    "cxr_core.training.network",
    "cxr_core.training.device",
    "cxr_core.training.checkpoint",
    "cxr_core.training.pictures",
    "cxr_core.training.normalisation",
    "cxr_core.training.callbacks",
    "cxr_core.training.schedules",
    "cxr_core.training.losses",
    "cxr_core.diagnosis.predictor",
    "cxr_core.diagnosis.single_pass",
    "cxr_core.diagnosis.engine",
    "cxr_core.diagnosis.exports",
    "cxr_core.diagnosis.explain",
    "cxr_core.diagnosis.sanity",
    "cxr_core.diagnosis.ensemble",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the product by its dotted name."""
    for path in [
        REPOSITORY / "streamlit_app.py",
        *sorted((REPOSITORY / "pages").glob("*.py")),
        *sorted((REPOSITORY / "cxr_core").rglob("*.py")),
    ]:
        name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def imports(path: Path) -> set[str]:
    """Every module a file imports, also inside functions, by its dotted name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # "from package import module" counts as the module where it is one
            found |= {
                f"{node.module}.{alias.name}"
                if is_module(f"{node.module}.{alias.name}")
                else node.module
                for alias in node.names
            }
    return found


def is_module(name: str) -> bool:
    place = REPOSITORY.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def room(module: str) -> str:
    """The entry of FLOORS that a module belongs to."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "cxr_core" else parts[0]


def floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return number
    raise AssertionError(f"{module} stands on no floor: give it one in FLOORS and ARCHITECTURE.md")


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_a_module_imports_only_from_floors_below_or_its_own_package(module, path):
    if module == "cxr_core.__main__":
        pytest.skip("the entry point stands above all floors")
    for imported in imports(path):
        if imported.split(".")[0] not in ("cxr_core", "pages", "streamlit_app"):
            continue
        assert room(imported) == room(module) or floor(imported) > floor(module), (
            f"{module} imports {imported}, which is not on a floor below"
        )


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_heavy_and_foreign_libraries_stay_in_their_rooms(module, path):
    tops = {name.split(".")[0] for name in imports(path)}
    if tops & {"tensorflow", "keras", "tf_keras_vis"}:
        assert any(module == r or module.startswith(f"{r}.") for r in USES_TENSORFLOW), module
    if "streamlit" in tops:
        assert room(module) in ("streamlit_app", "pages", "cxr_core.ui"), module
    if "mlflow" in tops:
        assert module == "cxr_core.training.tracking", module
    if "ray" in tops:
        assert room(module) == "cxr_core.cluster", module
    if "optuna" in tops:
        assert module == "cxr_core.training.study", module
    if tops & {"fastapi", "fastapi_offline", "uvicorn", "prometheus_client", "limits"}:
        assert room(module) == "cxr_core.service", module


def test_the_service_is_known_to_the_command_line_alone():
    for module, path in modules():
        if room(module) not in ("cxr_core.service", "cxr_core.cli"):
            assert "cxr_core.service" not in {room(name) for name in imports(path)}, module


@pytest.mark.parametrize(
    "module",
    [
        "cxr_core.zoo.registry",
        "cxr_core.data.sources",
        "cxr_core.evaluation.metrics",
        "cxr_core.figures",
        "cxr_core.diagnosis.bundle",
        "cxr_core.diagnosis.gate",
        "cxr_core.training.jobs",
        "cxr_core.training.sweeps",
        "cxr_core.training.bundle_index",
        "cxr_core.service.server",
        "cxr_core.cluster.launcher",
        "cxr_core.cli",
    ],
)
def test_importing_it_does_not_import_what_is_not_its_own(module):
    foreign = {"tensorflow", "streamlit", "optuna", "ray"}
    code = f"import sys, {module}; print(sorted({foreign} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_first_page_waits_for_no_slow_library():
    slow = ("tensorflow", "mlflow", "sqlalchemy", "scipy", "sklearn", "requests", "pydicom")
    code = (
        "import sys, cxr_core.ui.overview, cxr_core.ui.run_views;"
        f"print(sorted(set({slow}) & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(p.name for p in REPOSITORY.glob("requirements*.txt")))
def test_every_requirement_is_pinned_exactly(name):
    for line in (REPOSITORY / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r ")):
            assert "==" in line, f"{name}: {line}"
