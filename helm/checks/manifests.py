"""What every rendering must have: probes, a drain, a budget, security, names that fit, references that
lead somewhere."""

import base64
import re

from . import render

# What the Pod Security Standard "restricted" asks of each container, and more.
CONTAINER = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
POD = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
# Secrets and service accounts that come from elsewhere in the value files.
ELSEWHERE = {"database", "database-nodes", "database-clients"}


def check(report):
    """All rules, for all value files, then those of single values."""
    for name, file in render.value_files().items():
        things = render.objects(files=(file,))
        for pod, label in pods(things):
            secure(report, pod, f"values {name}: {label}")
        for thing in of(things, "StatefulSet"):
            node(report, thing, f"values {name}: {thing['metadata']['name']}")
        services(report, things, f"values {name}")
        references(report, things, f"values {name}")
    names(report)
    singles(report)
    versions(report)


def of(things, kind, component=None):
    """Objects of a kind."""
    return [
        t
        for t in things
        if t["kind"] == kind
        and (not component or t["metadata"]["labels"].get("app.kubernetes.io/component") == component)
    ]


def pods(things):
    """Every pod's spec with a name for messages."""
    for thing in things:
        label = f"{thing['kind']}/{thing['metadata']['name']}"
        if thing["kind"] == "Pod":
            yield thing["spec"], label
        elif thing["kind"] in ("StatefulSet", "Job"):
            yield thing["spec"]["template"]["spec"], label


def containers(pod):
    """All containers of a pod."""
    return pod.get("initContainers", []) + pod["containers"]


def secure(report, pod, label):
    """Nobody is root, nobody writes where the image lies, nobody has a token that it does not need."""
    context = pod["securityContext"]
    for key, wanted in POD.items():
        report.that(context.get(key) == wanted, f"{label}: {key} is {context.get(key)}")
    report.that(context["seccompProfile"] == {"type": "RuntimeDefault"}, f"{label}: no seccomp profile")
    needs_token = any(c["name"] == "store" for c in pod["containers"])
    report.that(pod["automountServiceAccountToken"] is needs_token, f"{label}: token of the service account")
    report.that(pod["enableServiceLinks"] is False, f"{label}: services come as FREEHOLD_... variables")
    for container in containers(pod):
        name = f"{label}: {container['name']}"
        for key, wanted in CONTAINER.items():
            report.that(container["securityContext"].get(key) == wanted, f"{name}: {key}")
        report.that(":" in container["image"].rsplit("/", 1)[-1], f"{name}: an image without tag or digest")
        report.that(not container["image"].endswith(":latest"), f"{name}: the image moves")
        mounted = {m["name"] for m in container["volumeMounts"]}
        known = {v["name"] for v in pod["volumes"]} | {"data"}
        report.that(mounted <= known, f"{name}: mounts without a volume {mounted - known}")
        text = str(container.get("args", "")) + str(container.get("env", ""))
        report.that("--superuser-password" not in text, f"{name}: a password on the command line")


def node(report, thing, label):
    """A StatefulSet of nodes."""
    spec, pod = thing["spec"], thing["spec"]["template"]["spec"]
    container = pod["containers"][0]
    report.that(spec["podManagementPolicy"] == "Parallel", f"{label}: nodes wait for each other in turn")
    report.that(spec["serviceName"].endswith("-headless"), f"{label}: serviceName")
    report.that(set(spec["persistentVolumeClaimRetentionPolicy"]) == {"whenDeleted", "whenScaled"}, f"{label}: PVCs")
    report.that(pod["terminationGracePeriodSeconds"] >= 60, f"{label}: no time to hand over and to end")
    drain = container["lifecycle"]["preStop"]["exec"]["command"][-1]
    report.that(re.match(r"freehold drain --data /data; told=\$\?; sleep [0-9]+; exit \$told$", drain), f"{label}: preStop is {drain}")
    paths = {"startupProbe": "/health/live", "readinessProbe": "/health/ready", "livenessProbe": "/health/live"}
    for probe, path in paths.items():
        report.that(container[probe]["httpGet"] == {"path": path, "port": "http"}, f"{label}: {probe}")
    startup = container["startupProbe"]
    patience = startup["periodSeconds"] * startup["failureThreshold"]
    report.that(patience >= 600, f"{label}: a long replay of the journal ends after {patience} s")
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    report.that(set(ports) == {"postgresql", "peer", "http"}, f"{label}: ports {ports}")
    arguments(report, container, ports, label)
    selector, labels = spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]
    report.that(selector.items() <= labels.items(), f"{label}: the selector misses its pods")
    report.that("helm.sh/chart" not in labels, f"{label}: a new chart would restart all nodes")
    password = [e for e in container["env"] if e["name"] == "FREEHOLD_SUPERUSER_PASSWORD"]
    report.that("secretKeyRef" in password[0]["valueFrom"], f"{label}: the password is no secret")


def arguments(report, container, ports, label):
    """The command line fits the rest of the manifest."""
    args = container["args"]
    flags = dict(a[2:].split("=", 1) for a in args[1:])
    report.that(args[0] == "start" and len(flags) == len(args) - 1, f"{label}: a flag twice, or no start")
    for flag, port in (("listen", "postgresql"), ("peer-listen", "peer"), ("http", "http")):
        report.that(flags[flag].endswith(f":{ports[port]}"), f"{label}: --{flag}={flags[flag]}")
    report.that(flags["peer-advertise"].startswith("$(POD_NAME)."), f"{label}: --peer-advertise")
    domain = flags["peer-advertise"].removeprefix("$(POD_NAME)")
    report.that(all(seed.endswith(domain) for seed in flags["join"].split(",")), f"{label}: --join")
    files = [flags[f] for f in flags if f.startswith(("cluster-", "tls-"))]
    mounts = {m["mountPath"] for m in container["volumeMounts"]}
    report.that(all(f.rsplit("/", 1)[0] in mounts for f in files), f"{label}: {files} are not mounted")
    report.that({"cluster-ca", "cluster-cert", "cluster-key"} <= set(flags), f"{label}: no TLS between nodes")
    report.that(flags["data"] in mounts and "/tmp" in mounts, f"{label}: nowhere to write")


def services(report, things, label):
    """Services, budget and policies select what they should."""
    nodes = [t["spec"]["template"]["metadata"]["labels"] for t in of(things, "StatefulSet")]
    others = [t["spec"]["template"]["metadata"]["labels"] for t in of(things, "Job")]
    headless, client = sorted(of(things, "Service"), key=lambda s: s["spec"].get("clusterIP") != "None")
    report.that(headless["spec"]["publishNotReadyAddresses"] is True, f"{label}: nodes don't find each other")
    report.that("publishNotReadyAddresses" not in client["spec"], f"{label}: clients get nodes that aren't ready")
    selectors = [s["spec"]["selector"] for s in (headless, client)]
    selectors += [b["spec"]["selector"]["matchLabels"] for b in of(things, "PodDisruptionBudget")]
    for selector in selectors:
        report.that(all(selector.items() <= n.items() for n in nodes), f"{label}: {selector} misses nodes")
        report.that(not any(selector.items() <= o.items() for o in others), f"{label}: {selector} takes a Job's pod")
    for budget in of(things, "PodDisruptionBudget"):
        report.that(budget["spec"]["maxUnavailable"] == 1, f"{label}: the budget")
    for job in of(things, "Job"):
        # Helm waits for the nodes before it runs hooks, and the nodes wait for the Jobs.
        report.that("annotations" not in job["metadata"], f"{label}: {job['metadata']['name']} is a hook")
    for service in (s for s in of(things, "ServiceMonitor")):
        wanted = service["spec"]["selector"]["matchLabels"]
        report.that(wanted.items() <= headless["metadata"]["labels"].items(), f"{label}: ServiceMonitor sees nobody")
        report.that(not wanted.items() <= client["metadata"]["labels"].items(), f"{label}: nodes are seen twice")


def references(report, things, label):
    """Secrets, service accounts and roles that are named exist, or a Job or cert-manager makes them."""
    have = {(t["kind"], t["metadata"]["name"]) for t in things}
    made = {c["spec"]["secretName"] for c in of(things, "Certificate")} | ELSEWHERE
    for job in of(things, "Job", "certs"):
        pod = job["spec"]["template"]["spec"]
        made |= {e["value"] for e in pod["initContainers"][0]["env"] if e["name"].endswith("_SECRET")}
        rules = [r for t in of(things, "Role") for r in t["rules"] if r.get("resourceNames")]
        allowed = {name for rule in rules for name in rule["resourceNames"]}
        report.that(made - ELSEWHERE <= allowed, f"{label}: the Job may not write {made - allowed}")
    for pod, name in pods(things):
        account = pod["serviceAccountName"]
        report.that(("ServiceAccount", account) in have, f"{label}: {name}: no service account {account}")
        wanted = {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
        for container in containers(pod):
            refs = [e.get("valueFrom", {}).get("secretKeyRef") for e in container.get("env", [])]
            wanted |= {ref["name"] for ref in refs if ref}
        for secret in wanted:
            report.that(secret in made or ("Secret", secret) in have, f"{label}: {name}: no secret {secret}")


def names(report):
    """Long releases: names fit, with what Kubernetes appends, and different ones stay different."""
    long = "a-release-with-the-longest-name-that-helm-takes-53-by"
    assert len(long) == 53
    file = render.value_files()["everything"]
    own = {"fullnameOverride="}
    for release in (long, "x"):
        things = render.objects(files=(file,), settings=tuple(own), release=release)
        for thing in things:
            name = thing["metadata"]["name"]
            limit = {"StatefulSet": 52, "Job": 57, "Service": 63}.get(thing["kind"], 63)
            report.that(len(name) <= limit, f"{thing['kind']}/{name}: {len(name)} characters, {limit} fit")
            report.that(re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name), f"{thing['kind']}/{name}: no DNS name")
            labels = thing["metadata"]["labels"].values()
            report.that(all(len(v) <= 63 for v in labels), f"{thing['kind']}/{name}: a label is too long")
        keys = [(t["kind"], t["metadata"]["name"]) for t in things]
        report.that(len(keys) == len(set(keys)), f"two objects have one name: {sorted(keys)}")
    other = render.objects(release=long[:-1] + "z")
    mine = {t["metadata"]["name"] for t in render.objects(release=long)}
    report.that(not mine & {t["metadata"]["name"] for t in other}, "two long releases share a name")


def singles(report):
    """What single values change, and what they must not."""

    def nodes(*settings):
        return of(render.objects(settings=settings), "StatefulSet")[0]["spec"]

    three, nine = nodes(), nodes("replicas=9")
    report.that(three["template"] == nine["template"], "more replicas would restart the nodes that are there")
    one = nodes("replicas=1")["template"]["spec"]["containers"][0]["args"]
    report.that(sum("-1.shop" in a for a in one) == 0, "one node waits for a second one")
    off = nodes("drain.enabled=false")["template"]["spec"]["containers"][0]
    report.that("lifecycle" not in off, "drain.enabled=false")
    plain = nodes("tls.client.source=none")["template"]["spec"]["containers"][0]["args"]
    report.that(not any(a.startswith("--tls-") for a in plain), "tls.client.source=none")
    kinds = {t["kind"] for t in render.objects()}
    optional = {"NetworkPolicy", "ServiceMonitor", "PrometheusRule", "Certificate", "ConfigMap"}
    report.that(not kinds & optional, f"the default makes {kinds & optional}")
    spares = of(render.objects(settings=("spares.replicas=2",)), "StatefulSet")
    member, spare = (s["spec"]["template"]["spec"]["containers"][0] for s in spares)
    report.that(member == spare, "a spare starts differently from a node")
    secret = of(render.objects(settings=("auth.password=pa55",)), "Secret")[0]
    report.that(base64.b64decode(secret["data"]["password"]) == b"pa55", "auth.password")
    report.that(secret["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}, "the password goes")
    drawn = {of(render.objects(settings=(s,)), "Secret")[0]["data"]["password"] for s in ("replicas=3", "replicas=5")}
    report.that(len(drawn) == 2 and all(len(base64.b64decode(d)) == 32 for d in drawn), "drawn passwords")
    jobs = [
        {t["metadata"]["name"] for t in of(render.objects(settings=s), "Job")}
        for s in ((), ("image.tag=next",), ("tls.cluster.hosts={db.example.com}",))
    ]
    report.that(not jobs[0] & jobs[1], "another image would change a Job that has run")
    report.that(len(jobs[0] & jobs[2]) == 1, "other hosts need another certificate, and no other cluster")


def versions(report):
    """What only newer Kubernetes knows is left out for older ones."""
    for version, wanted in (("1.30", False), ("1.31", True), ("1.37", True)):
        text = render.template(settings=("service.trafficDistribution=PreferClose",), kube=version)
        report.that(("trafficDistribution" in text) is wanted, f"trafficDistribution for {version}")
    try:
        render.template(kube="1.26")
        report.that(False, "Kubernetes 1.26 is taken")
    except AssertionError as error:
        report.that("1.27" in str(error), str(error))
