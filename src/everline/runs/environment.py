"""What a run ran on: Python, machine, threads, BLAS, every installed distribution, the variables that change results.

Read from files and `/proc` only: no framework is imported, so the capture stays below its budget of 150 ms.
A distribution's digest covers the SHA-256 lines of its `RECORD`, without the lines that depend on where it was
installed (scripts with an absolute interpreter path, installer marks), so the same wheel has the same digest on every
machine. An editable distribution has no such lines: its digest covers the Python files of its source folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from everline.canonical import canonical_json
from everline.ids import digest_bytes

# Values that decide bits or order: threads, hash seed, locale, time zone, accelerators, our own settings.
RELEVANT = re.compile(
    r"^(OMP|MKL|OPENBLAS|BLIS|GOTO|NUMEXPR|VECLIB|KMP|POLARS|ARROW|PYTHON|CUDA|CUBLAS|NVIDIA|TF|TORCH|XLA|JAX|LC|NPY"
    r"|SKLEARN|LOKY|RAYON|EVERLINE|MLFLOW)_?.*$|^(LANG|TZ|SOURCE_DATE_EPOCH|VIRTUAL_ENV_PROMPT)$"
)
# Any of these words in a name hides the value, whatever else is known about it.
SECRET_NAME = re.compile(
    r"token|secret|passw|pwd|credential|apikey|api_key|access_?key|private|auth|cookie|session|dsn|license|signature"
    r"|(^|[_.-])(key|pat|jwt|sas)($|[_.-])",
    re.IGNORECASE,
)
# A value that carries a secret itself: user information in a URL, a bearer token, a private key, a known token prefix.
SECRET_VALUE = re.compile(
    r"://[^/@\s]*:[^/@\s]*@|\bbearer\s|-----BEGIN|^(gh[pousr]_|glpat-|sk-|xox[abprs]-|AKIA|ASIA|eyJ)", re.IGNORECASE
)
_MACHINE_CLASS = ("architecture", "cpu", "cpu_features", "accelerators")
_GPUS = Path("/proc/driver/nvidia/gpus")
REDACTED = "[redacted]"
VALUE_CHARS_MAX = 1024
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
# Set again for a second run, because they decide bits or order and say nothing about the place.
REPLAYED = (*THREAD_VARIABLES, "PYTHONHASHSEED", "TZ", "LANG", "LC_ALL", "CUBLAS_WORKSPACE_CONFIG", "SOURCE_DATE_EPOCH")
_INSTALLER_FILES = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"})
_CLOCK_NS = 2_000_000_000
_CACHE_ENTRIES_MAX = 5_000


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """One installed distribution; `digest` is None when it left no record of its files."""

    name: str
    version: str
    digest: str | None = None
    editable: bool = False


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine class: what decides floating-point bits outside the software."""

    os: str
    libc: str
    architecture: str
    cpu: str
    cpu_features: tuple[str, ...] = ()
    cpus_usable: int = 1
    accelerators: tuple[str, ...] = ()


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Everything outside code, data, parameters and seed that a result may depend on.

    `digest` covers Python and the distributions: equal digests mean the same software, file by file.
    """

    python: str
    implementation: str
    machine: Machine
    threads: dict[str, str]
    blas: tuple[str, ...]
    hash_seed: str
    distributions: tuple[Distribution, ...]
    variables: dict[str, str]
    digest: str


class EnvironmentDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as recorded. `kind` is `environment` (software, threads) or `hardware`."""

    kind: str
    name: str
    recorded: str
    here: str

    def sentence(self) -> str:
        return f"{self.name}: {self.recorded} recorded, {self.here} here"


def capture_environment(
    variables: Mapping[str, str] | None = None, *, paths: list[str] | None = None, python: str | None = None
) -> Environment:
    """Read the environment of this process, or of another one on this machine.

    Args:
        variables: the process environment to read instead of `os.environ`.
        paths: where it looks for modules, instead of `sys.path`.
        python: its version of Python, instead of this one's.

    Returns:
        The environment; secrets are replaced by `[redacted]`.
    """
    env = os.environ if variables is None else variables
    installed = tuple(installed_distributions(paths))
    python, implementation = python or platform.python_version(), platform.python_implementation()
    return Environment(
        python=python,
        implementation=implementation,
        machine=_machine(),
        threads={name: env[name] for name in THREAD_VARIABLES if name in env},
        blas=tuple(_blas_libraries(sys.path if paths is None else paths)),
        hash_seed=env.get("PYTHONHASHSEED", "") or "random",
        distributions=installed,
        variables=relevant_variables(env),
        digest=software_digest(python, implementation, installed),
    )


def software_digest(python: str, implementation: str, distributions: tuple[Distribution, ...]) -> str:
    """Digest of Python's version and of every distribution's name, version and record."""
    rows = [[d.name, d.version, d.digest or ""] for d in distributions]
    return digest_bytes(canonical_json({"python": python, "implementation": implementation, "distributions": rows}))


def relevant_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may change a result, with secrets redacted by name and by value."""
    return {name: redact(name, env[name]) for name in sorted(env) if RELEVANT.match(name)}


def redact(name: str, value: str) -> str:
    """Return `value`, or `[redacted]` if its name or its content says that it is a secret."""
    if SECRET_NAME.search(name) or SECRET_VALUE.search(value):
        return REDACTED
    return value[:VALUE_CHARS_MAX]


def pinned_variables(environment: Environment) -> dict[str, str]:
    """Return the variables that a second run must set to have the recorded threads, hash seed, locale and zone."""
    kept = {name: environment.variables[name] for name in REPLAYED if name in environment.variables}
    kept.update(environment.threads)
    # A run with a random hash seed cannot be repeated exactly; a fixed seed at least repeats itself.
    kept["PYTHONHASHSEED"] = "0" if environment.hash_seed == "random" else environment.hash_seed
    return {name: value for name, value in kept.items() if value != REDACTED}


def differences(recorded: Environment, here: Environment) -> list[EnvironmentDifference]:
    """Compare two environments: Python first, then distributions by name, then hardware.

    Threads and hash seed are not compared: a second run sets them from the record.
    """
    found: list[EnvironmentDifference] = []

    def check(kind: str, name: str, before: str, now: str) -> None:
        if before != now:
            found.append(EnvironmentDifference(kind=kind, name=name, recorded=before, here=now))

    check("environment", "python", recorded.python, here.python)
    check("environment", "implementation", recorded.implementation, here.implementation)
    before = {d.name: d for d in recorded.distributions}
    now = {d.name: d for d in here.distributions}
    for name in sorted(before.keys() | now.keys()):
        check("environment", name, _named(before.get(name)), _named(now.get(name)))
    check("environment", "blas", ", ".join(recorded.blas), ", ".join(here.blas))
    for field in Machine.__struct_fields__:
        check("hardware", field, _words(getattr(recorded.machine, field)), _words(getattr(here.machine, field)))
    return found


def _words(value: object) -> str:
    return (", ".join(str(one) for one in value) or "none") if isinstance(value, tuple) else str(value)


def machine_class_differs(recorded: Machine, here: Machine) -> bool:
    """Whether results on two machines may differ in their bits although the software is the same."""
    return any(getattr(recorded, field) != getattr(here, field) for field in _MACHINE_CLASS)


def _named(distribution: Distribution | None) -> str:
    if distribution is None:
        return "not installed"
    digest = (distribution.digest or "sha256:no record")[7:19]
    return f"{distribution.version} ({digest}{', editable' if distribution.editable else ''})"


def installed_distributions(paths: list[str] | None = None) -> list[Distribution]:
    """Return every distribution on the path, sorted by name; the first of two with one name counts, as in imports."""
    cache = _read_cache()
    fresh: dict[str, tuple[int, int, str]] = {}
    found: dict[str, Distribution] = {}
    for name, folder in distribution_folders(sys.path if paths is None else paths).items():
        version = folder.name.removesuffix(".dist-info").rpartition("-")[2]
        if _is_editable(folder):
            digest = _editable_digest(folder, cache, fresh)
            found[name] = Distribution(name=name, version=version, digest=digest, editable=True)
            continue
        found[name] = Distribution(name=name, version=version, digest=_record_digest(folder, cache, fresh))
    if fresh:
        _write_cache({**cache, **fresh})
    return [found[name] for name in sorted(found)]


def distribution_folders(paths: list[str]) -> dict[str, Path]:
    """The `.dist-info` folders on a path by normalised name; the first of two with one name counts, as in imports."""
    found: dict[str, Path] = {}
    for folder in _dist_info_folders(paths):
        raw_name = folder.name.removesuffix(".dist-info").rpartition("-")[0]
        name = re.sub(r"[-_.]+", "-", raw_name).lower()
        if name:
            found.setdefault(name, folder)
    return found


def _dist_info_folders(paths: list[str]) -> Iterator[Path]:
    for path in paths:
        try:
            entries = sorted(entry.name for entry in os.scandir(path or ".") if entry.name.endswith(".dist-info"))
        except OSError:
            continue
        for name in entries:
            yield Path(path or ".") / name


def _record_digest(
    folder: Path, cache: dict[str, tuple[int, int, str]], fresh: dict[str, tuple[int, int, str]]
) -> str | None:
    record = folder / "RECORD"
    try:
        stat = record.stat()
    except OSError:
        return None
    known = cache.get(str(record))
    if known is not None and known[0] == stat.st_mtime_ns and known[1] == stat.st_size:
        return known[2]
    lines = sorted(line for line in record.read_text("utf-8").splitlines() if _is_of_the_wheel(line))
    digest = digest_bytes("\n".join(lines).encode())
    fresh[str(record)] = (stat.st_mtime_ns, stat.st_size, digest)
    return digest


def _is_of_the_wheel(line: str) -> bool:
    path, _, rest = line.partition(",sha256=")
    if not rest or path.startswith(("..", "/", '"..')):
        return False
    return not (".dist-info/" in path and path.rpartition("/")[2] in _INSTALLER_FILES)


def _is_editable(folder: Path) -> bool:
    try:
        origin = msgspec.json.decode((folder / "direct_url.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    return isinstance(origin, dict) and bool((origin.get("dir_info") or {}).get("editable"))


def _editable_digest(
    folder: Path, cache: dict[str, tuple[int, int, str]], fresh: dict[str, tuple[int, int, str]]
) -> str | None:
    """Digest of the Python files that an editable distribution's `.pth` files put on the path.

    Files whose name, size and times are those of the last look have the content of then.
    """
    try:
        record = (folder / "RECORD").read_text("utf-8")
    except OSError:
        return None
    digest = hashlib.sha256()
    for line in sorted(record.splitlines()):
        path = line.partition(",")[0]
        if not path.endswith(".pth"):
            continue
        for source in (folder.parent / path).read_text("utf-8").splitlines():
            root = Path(source.strip())
            if not root.is_absolute() or not root.is_dir():
                continue
            digest.update(_folder_digest(root, cache, fresh))
    return f"sha256:{digest.hexdigest()}"


def _folder_digest(root: Path, cache: dict[str, tuple[int, int, str]], fresh: dict[str, tuple[int, int, str]]) -> bytes:
    files = sorted(_python_files(str(root)))
    seen = hashlib.sha256()
    newest = 0
    for path, stat in files:
        seen.update(f"{path}\0{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}\n".encode())
        newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
    state = int.from_bytes(seen.digest()[:7])
    known = cache.get(str(root))
    if known is not None and known[:2] == (state, len(files)):
        return bytes.fromhex(known[2])
    digest = hashlib.sha256()
    for path, _ in files:
        digest.update(os.path.relpath(path, root).encode() + b"\0")
        digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
    if time.time_ns() - newest > _CLOCK_NS:  # a file that changes twice within a tick of the clock looks unchanged
        fresh[str(root)] = (state, len(files), digest.hexdigest())
    return digest.digest()


def _python_files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _python_files(entry.path)
        elif entry.name.endswith(".py"):
            with contextlib.suppress(OSError):
                yield entry.path, entry.stat()


def _machine() -> Machine:
    name = os.uname()
    cpu, features = _cpu()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        os=f"{name.sysname} {name.release}",
        libc=_libc(),
        architecture=name.machine,
        cpu=cpu,
        cpu_features=features,
        cpus_usable=usable,
        accelerators=_accelerators(),
    )


def _accelerators() -> tuple[str, ...]:
    """Models of the NVIDIA GPUs that the kernel's driver knows."""
    found = []
    try:
        for folder in sorted(_GPUS.iterdir()):
            lines = (folder / "information").read_text("utf-8", errors="replace").splitlines()
            found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    except OSError:
        return ()
    return tuple(found)


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, AttributeError, OSError):
        return ""


def _cpu() -> tuple[str, tuple[str, ...]]:
    """Model name and the vector extensions that numeric libraries dispatch on."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return platform.processor(), ()
    pairs = [line.partition(":") for line in text.splitlines()]
    fields = {key.strip(): value.strip() for key, colon, value in pairs if colon}
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    dispatch = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "amx_tile", "asimd", "sve")
    return fields.get("model name", platform.processor()), tuple(flag for flag in dispatch if flag in flags)


def _blas_libraries(paths: list[str]) -> list[str]:
    """File names of the BLAS libraries that wheels brought; the names carry a hash of the build."""
    found: set[str] = set()
    for path in paths:
        for owner in ("numpy.libs", "scipy.libs"):
            try:
                found.update(f"{owner}/{e.name}" for e in os.scandir(Path(path) / owner) if "blas" in e.name)
            except OSError:
                continue
    return sorted(found)


def _cache_path() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "everline" / "distributions.json"


def _read_cache() -> dict[str, tuple[int, int, str]]:
    """Digests already computed, keyed by the RECORD's path, valid for its modification time and size only."""
    try:
        return msgspec.json.decode(_cache_path().read_bytes(), type=dict[str, tuple[int, int, str]])
    except (OSError, msgspec.DecodeError):
        return {}


def _write_cache(entries: dict[str, tuple[int, int, str]]) -> None:
    kept = dict(list(entries.items())[-_CACHE_ENTRIES_MAX:])
    path = _cache_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(kept))
        Path(name).replace(path)
    except (OSError, RuntimeError):
        return  # The cache only saves time: without a writable home every run reads the records again.
