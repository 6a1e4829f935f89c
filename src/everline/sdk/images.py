"""What builds a container image of a serving bundle: a folder with a Dockerfile and everything that it copies.

No builder is needed to write it, and nothing in it is secret. Equal bundles, locks and installations give equal files.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from everline.bundles import archive, serving, verification
from everline.bundles.types import Dependencies, Kind
from everline.errors import InvalidInputError
from everline.governance.signing import VerifyKey
from everline.ids import digest_bytes
from everline.models.requirements import normalised
from everline.runs.uv import find_uv, run_uv
from everline.sdk import wheel

BUNDLE, LOCK = "model.everline", "requirements.lock"
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DOCKERFILE = """\
# Written by `everline package --image`: serves one released model version with no network.
#
#   docker build --network=default --build-arg BASE_DIGEST=sha256:… --tag NAME .
#   docker run --read-only --tmpfs /tmp --volume log:/var/lib/everline --publish 127.0.0.1:4681:4681 NAME
#
# `docker buildx imagetools inspect {base}` names the digest. With --build-arg SOURCE_DATE_EPOCH=0 and
# --output type=image,rewrite-timestamp=true the image is the same, bit for bit, each time.
ARG BASE={base}
ARG BASE_DIGEST={digest}
FROM ${{BASE}}@${{BASE_DIGEST}}

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONHASHSEED=0 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /srv/everline
COPY {lock} {wheel} ./
# Wheels only, each with its SHA-256: no code of a dependency runs while the image is built.
RUN python -m venv /opt/everline \\
 && /opt/everline/bin/pip install --no-cache-dir --no-compile --no-deps --only-binary :all: \\
    --require-hashes --requirement {lock} \\
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/everline
COPY {bundle} {key} ./

USER 10001:10001
# The container's network decides who may ask: publish the port to a proxy that knows callers.
ENV EVERLINE_LOGIN=1 EVERLINE_HOME=/var/lib/everline
VOLUME /var/lib/everline
EXPOSE 4681
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \\
    CMD ["/opt/everline/bin/python", "-c", \\
         "import urllib.request as u; u.urlopen('http://127.0.0.1:4681/v2/health/ready', timeout=2)"]
ENTRYPOINT ["/opt/everline/bin/everline", "serve"]
CMD ["--host", "0.0.0.0", "--port", "4681", \\
     "--bundle", "/srv/everline/{bundle}", "--key", "/srv/everline/{key}"]
"""


def write_context(
    file: Path, directory: Path, *, key: VerifyKey, lock: str | None = None, base_digest: str = ""
) -> list[Path]:
    """Write the folder; return its files.

    Args:
        file: a serving bundle, which is verified first.
        directory: does not exist yet, or is empty.
        key: the public key that the image believes.
        lock: `name==version --hash=sha256:…` for each distribution, where that was made elsewhere; None has uv ask
            the package index for the hashes.
        base_digest: of the base image; empty leaves it to who builds, who cannot do without.

    Raises:
        InvalidInputError: the directory is not empty, or the lock or the digest does not fit.
        IntegrityError: the bundle is not what it says.
        EnvironmentUnavailableError: uv is missing, or the index has no such version.
    """
    if directory.exists() and any(directory.iterdir()):
        raise InvalidInputError(
            f"The directory {directory} is not empty.", hint="Give one that does not exist yet.", field="image"
        )
    if base_digest and not _DIGEST.fullmatch(base_digest):
        raise InvalidInputError(
            f"{base_digest[:80]!r} is no digest.", hint="Write sha256: and 64 hexadecimal digits.", field="base_digest"
        )
    with verification.opened(file) as reader:
        verification.require(reader, key, Kind.SERVING)
        needed = serving.dependencies(reader)
    pins = _hashes(needed) if lock is None else _checked(lock, needed)
    built = wheel.build()
    base = f"python:{needed.python}-slim"
    texts = {
        "Dockerfile": _DOCKERFILE.format(
            base=base, digest=base_digest, lock=LOCK, wheel=wheel.file_name(), bundle=BUNDLE, key=archive.KEY
        ),
        ".dockerignore": "".join(
            f"{line}\n" for line in ("*", *(f"!{name}" for name in (LOCK, wheel.file_name(), BUNDLE, archive.KEY)))
        ),
        LOCK: f"{pins.rstrip()}\n./{wheel.file_name()} \\\n    --hash={digest_bytes(built)}\n",
        archive.KEY: f"{key.text}\n",
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8", newline="\n")
    (directory / wheel.file_name()).write_bytes(built)
    shutil.copyfile(file, directory / BUNDLE)
    return sorted(directory.iterdir())


def _hashes(needed: Dependencies) -> str:
    """The lock with the hashes that the package index gives."""
    wanted = "".join(f"{one.name}=={one.version}\n" for one in needed.distributions)
    command = [find_uv(), "pip", "compile", "--quiet", "--generate-hashes", "--no-deps", "--no-header", "--no-annotate"]
    return _checked(run_uv([*command, "--python-version", needed.python, "-"], stdin=wanted), needed)


def _checked(lock: str, needed: Dependencies) -> str:
    """A lock that pins exactly what is needed, each with a hash.

    Raises:
        InvalidInputError: something is missing, there in another version, or without a hash.
    """
    found = {normalised(name): version for name, version in _PIN.findall(lock)}
    for one in needed.distributions:
        if found.get(one.name) != one.version:
            raise InvalidInputError(
                f"The lock has {one.name} {found.get(one.name, 'not at all')}, where {one.version} is needed.",
                hint="Make it of the bundle's dependencies.json, with `uv pip compile --generate-hashes --no-deps`.",
                field="lock",
            )
    parts = re.split(r"\n(?=\S)", lock)
    bare = next((part for part in parts if _PIN.match(part) and "--hash=sha256:" not in part), None)
    if bare is not None:
        raise InvalidInputError(f"The lock has no hash for {bare.split()[0]}.", field="lock")
    return lock
