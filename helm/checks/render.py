"""Lints and renders the chart, and validates what comes out against Kubernetes' own schemas."""

import functools
import json
import re
import subprocess

import yaml

from . import tools

RELEASE, NAMESPACE = "shop", "data"
OLDEST = (1, 27)
# Kinds that Kubernetes itself does not know, and where their models are.
CUSTOM = {
    "cert-manager.io/v1": "cloudcoil.models.cert_manager.v1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}


def value_files():
    """The value files of the checks, by name."""
    files = sorted((tools.CHART / "ci").glob("*-values.yaml"))
    return {file.name.removesuffix("-values.yaml"): file for file in files}


@functools.cache
def versions():
    """Kubernetes versions for which there are schemas and which the chart is for, as texts."""
    import kubernetes_validate

    found = {kubernetes_validate.utils.major_minor(v) for v in kubernetes_validate.utils.all_versions()}
    found = [v for v in found if tuple(map(int, v.split("."))) >= OLDEST]
    return sorted(found, key=lambda v: tuple(map(int, v.split("."))))


def helm(*arguments, generation="helm 4"):
    """What helm prints and how it ends."""
    command = [str(tools.helm(generation)), *map(str, arguments)]
    # Neither a cluster nor a repository of charts is to be found.
    environment = {"HOME": str(tools.folder()), "KUBECONFIG": "/dev/null", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@functools.cache
def template(files=(), settings=(), kube=None, generation="helm 4", release=RELEASE):
    """The rendered manifests as a text; fails with what helm said."""
    arguments = ["template", release, tools.CHART, "--namespace", NAMESPACE]
    for file in files:
        arguments += ["--values", file]
    for setting in settings:
        arguments += ["--set", setting]
    if kube:
        arguments += ["--kube-version", kube]
    done = helm(*arguments, generation=generation)
    if done.returncode != 0:
        raise AssertionError(done.stderr.strip())
    return done.stdout


def objects(**how):
    """The rendered manifests as objects."""
    return [o for o in yaml.load_all(template(**how), Loader=yaml.CSafeLoader) if o]


def lint(report):
    """No error and no warning, and both generations of Helm render the same."""
    for name, file in value_files().items():
        for generation in tools.HELM_PACKAGES:
            done = helm("lint", "--strict", tools.CHART, "--values", file, generation=generation)
            said = done.stdout + done.stderr
            sound = done.returncode == 0 and not re.search(r"\[(WARNING|ERROR)\]|level=WARN", said)
            report.that(sound, f"{generation} lint --strict, values {name}: {said.strip()}")
        texts = [
            re.sub(r"password: .*", "password", template(files=(file,), generation=generation))
            for generation in tools.HELM_PACKAGES
        ]
        told = notes(file)
        report.that("For clients:" in told and "<no value>" not in told, f"values {name}: NOTES say {told}")
        same = [sorted(text.split("\n---\n")) for text in texts]
        report.that(same[0] == same[1], f"values {name}: the two generations of Helm render differently")


def notes(file):
    """What `helm install` tells at its end."""
    command = ["install", RELEASE, tools.CHART, "--dry-run=client", "--values", file]
    done = helm(*command, generation="helm 4")
    return done.stdout.partition("NOTES:")[2] or done.stderr


def validate(report):
    """Every object, strictly, for every version of Kubernetes."""
    newest = versions()[-1]
    report.that(versions()[0] == "1.27" and len(versions()) > 10, f"versions are {versions()}")
    for version in versions():
        looked_at = set()
        for name, file in value_files().items():
            for thing in objects(files=(file,), kube=version):
                text = json.dumps(thing, sort_keys=True)
                if text in looked_at:
                    continue
                looked_at.add(text)
                label = f"{thing['kind']}/{thing['metadata']['name']} of values {name} for {version}"
                if thing["apiVersion"] not in CUSTOM:
                    report.that(*valid(thing, version, label))
                elif version == newest:
                    report.that(*custom(thing, label))


def valid(thing, version, label):
    """Whether a version of Kubernetes takes an object, no field more than it knows."""
    import kubernetes_validate

    # It would read the definitions of a version anew for each object.
    if not hasattr(kubernetes_validate.utils.schema_contents, "cache_info"):
        kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)
    try:
        kubernetes_validate.validate(thing, version, strict=True)
        return True, label
    except kubernetes_validate.ValidationError as error:
        return False, f"{label}: {list(error.path)}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return False, f"{label}: {error.message}"


def custom(thing, label):
    """Reads an object by the model of its kind and writes it again: a field that is lost is unknown."""
    import importlib

    import pydantic

    model = getattr(importlib.import_module(CUSTOM[thing["apiVersion"]]), thing["kind"])
    try:
        read = model.model_validate(thing)
    except pydantic.ValidationError as error:
        return False, f"{label}: {error}"
    lost = missing(thing, read.model_dump(by_alias=True, exclude_unset=True, mode="json"))
    return not lost, f"{label}: unknown fields {lost}"


def missing(whole, part, path=""):
    """Paths that are in the one and not in the other."""
    if isinstance(whole, dict) and isinstance(part, dict):
        lost = [f"{path}.{key}" for key in whole if key not in part]
        return lost + [p for key in whole if key in part for p in missing(whole[key], part[key], f"{path}.{key}")]
    if isinstance(whole, list) and isinstance(part, list):
        return [p for i, (a, b) in enumerate(zip(whole, part)) for p in missing(a, b, f"{path}[{i}]")]
    return []
