"""The Dockerfile and the scripts: linters, and that the build gets what it needs and nothing else."""

import fnmatch
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from . import render, tools

DOCKERFILE = tools.ROOT / "Dockerfile"
IGNORE = tools.ROOT / ".dockerignore"


def scripts(report):
    """The scripts that run in pods, alone and as they are rendered."""
    shellcheck = tools.in_venv("shellcheck")
    for script in sorted((tools.CHART / "files").glob("*.sh")):
        done = subprocess.run([shellcheck, "--shell=dash", script], capture_output=True, text=True)
        report.that(done.returncode == 0, f"{script.name}: {done.stdout}")
        for thing in render.objects():
            text = yaml.safe_dump(thing, width=10**6, default_style="|")
            report.that("{{" not in text, f"{thing['kind']} has a template in it")
    done = subprocess.run([shellcheck, "--severity=warning", tools.ROOT / ".ci" / "run"], capture_output=True, text=True)
    report.that(done.returncode == 0, f".ci/run: {done.stdout}")


def check(report):
    """hadolint, the pinned base images, the user, and the context of the build."""
    done = subprocess.run([tools.in_venv("hadolint"), "--no-color", DOCKERFILE], capture_output=True, text=True)
    report.that(done.returncode == 0 and not done.stdout, f"hadolint: {done.stdout}{done.stderr}")
    text = DOCKERFILE.read_text()
    channel = re.search(r'channel = "(.*)"', (tools.ROOT / "rust-toolchain.toml").read_text())[1]
    report.that(f"RUST_VERSION={channel}\n" in text, f"Dockerfile: rust-toolchain.toml says {channel}")
    report.that(text.count("FROM ") == 2, "Dockerfile: two stages")
    report.that(not re.search("^FROM .*--platform", text, re.MULTILINE), "Dockerfile: bound to one platform")
    last = text[text.rindex("FROM ") :]
    report.that("USER 65532:65532" in last, "Dockerfile: the user is not 65532")
    report.that('ENTRYPOINT ["freehold"]' in last, "Dockerfile: signals must reach the program itself")
    context(report)


def context(report):
    """What .dockerignore leaves builds: cargo finds every member, and nothing that is kept out is missed."""
    with tempfile.TemporaryDirectory() as folder:
        copied = 0
        for file in tracked():
            if not ignored(file):
                to = Path(folder) / file
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tools.ROOT / file, to)
                copied += 1
        report.that(copied > 100, f".dockerignore leaves {copied} files")
        cargo = tools.program("cargo")
        command = [cargo, "metadata", "--locked", "--offline", "--no-deps", "--format-version=1"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        report.that(done.returncode == 0, f"the build has not all it needs: {done.stderr}")
        for source in Path(folder).rglob("*.rs"):
            for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', source.read_text()):
                report.that((source.parent / name).exists(), f"{source.relative_to(folder)} includes {name}")
    for kept_out in ("target/release/freehold", ".git/config", "helm/freehold/Chart.yaml"):
        report.that(ignored(kept_out), f".dockerignore lets {kept_out} in")


def tracked():
    """The files of the repository."""
    done = subprocess.run(["git", "ls-files"], cwd=tools.ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def ignored(file):
    """By the rules of .dockerignore: the last pattern that fits the path or one of its folders decides."""
    verdict = False
    for line in IGNORE.read_text().splitlines():
        pattern = line.strip().lstrip("!").strip("/")
        if not pattern or pattern.startswith("#"):
            continue
        assert "**" not in pattern, f".dockerignore: {pattern} is not understood here"
        wanted, parts = pattern.split("/"), Path(file).parts
        # A star does not cross a slash.
        if len(parts) >= len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
            verdict = not line.strip().startswith("!")
    return verdict
