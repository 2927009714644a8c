"""Plays the chart on this machine: its certificates, nodes, Jobs and test run as the manifests say, as
processes with a network and an /etc/hosts of their own, so that the pods' names and ports are real."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from . import render, tools
from .manifests import of

# How long anything may take, in seconds.
PATIENCE = 60


def flags(report):
    """Every flag that the chart uses or knows is one of the program's."""
    program = tools.freehold()
    known = {name: options(program, name) for name in ("start", "init", "drain")}
    listed = (tools.CHART / "ci" / "flags.txt").read_text().split("\n")
    listed = {tuple(line.split()) for line in listed if line and not line.startswith("#")}
    used = set()
    for file in render.value_files().values():
        for thing in of(render.objects(files=(file,)), "StatefulSet"):
            container = thing["spec"]["template"]["spec"]["containers"][0]
            used |= {("start", a.split("=")[0]) for a in container["args"][1:]}
            drain = container["lifecycle"]["preStop"]["exec"]["command"][-1]
            used |= {("drain", flag) for flag in re.findall(r"--[a-z-]+", drain)}
    schema = json.loads((tools.CHART / "values.schema.json").read_text())
    used |= {("start", f"--{name}") for name in schema["properties"]["settings"]["properties"]}
    for script in (tools.CHART / "files").glob("*.sh"):
        for command, rest in re.findall(r"freehold (init|cert ca|cert node) (.*)", script.read_text()):
            used |= {(command.replace(" ", "-"), flag) for flag in re.findall(r"--[a-z-]+", rest)}
    for command in ("cert ca", "cert node"):
        known[command.replace(" ", "-")] = options(program, *command.split())
    report.that(used == listed, f"ci/flags.txt: {sorted(used ^ listed)} are on one side only")
    for command, flag in sorted(used):
        report.that(flag in known[command], f"freehold {command} has no {flag}")


def options(program, *command):
    """The flags that `--help` shows."""
    done = subprocess.run([program, *command, "--help"], capture_output=True, text=True)
    return set(re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", done.stdout, re.MULTILINE))


def cluster(report):
    """Runs stage.py in namespaces of its own; it prints one line for each thing that it has seen."""
    program = tools.freehold()
    psql = tools.program("psql")
    if os.geteuid() != 0:
        raise tools.Missing("network and mounts of its own, which only root can have")
    tools.run("unshare", "--mount", "--net", "true")
    with tempfile.TemporaryDirectory() as folder:
        plan = {"program": program, "psql": psql, "folder": folder, "patience": PATIENCE}
        plan["objects"] = render.objects(settings=("spares.replicas=1", "drain.pauseSeconds=0"))
        file = Path(folder) / "plan.json"
        file.write_text(json.dumps(plan))
        stage = Path(__file__).with_name("stage.py")
        command = ["unshare", "--mount", "--net", "--fork", "--pid", "--kill-child", sys.executable, stage, file]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20 * PATIENCE)
        for line in done.stdout.splitlines():
            report.that(not line.startswith("FAILED"), line.removeprefix("FAILED: "))
        report.that(done.returncode == 0, f"the play ended with {done.returncode}")
        if report.failures:
            print(done.stderr[-8000:])
            return
        stored(report, Path(folder) / "work" / "secrets.yaml")


def stored(report, file):
    """What the Job of the certificates would give to kubectl."""
    for secret in yaml.safe_load_all(file.read_text()):
        for version in render.versions():
            report.that(*render.valid(secret, version, f"{secret['metadata']['name']} for {version}"))
