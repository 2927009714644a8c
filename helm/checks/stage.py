"""What `helm/check play` runs inside: a machine with the pods' names, on which each container of the
manifests is a process. Prints `ok: ...` or `FAILED: ...` for each thing seen. Argument: the plan (play.py)."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

USER = 65532


def seen(holds, text):
    """One line for the report."""
    print(f"{'ok' if holds else 'FAILED'}: {text}", flush=True)
    return holds


def needed(holds, text):
    """The same for what all that follows builds on."""
    if not seen(holds, text):
        sys.exit(1)


class Stage:
    """The machine: folders for volumes, addresses for pods."""

    def __init__(self, plan):
        self.plan = plan
        self.folder = Path(plan["folder"])
        self.objects = plan["objects"]
        self.secrets = {}
        self.password = ""
        self.addresses = {}
        os.environ["PATH"] = f"{self.folder / 'bin'}:{os.environ['PATH']}"

    def of(self, kind, **labels):
        """Objects of a kind with labels."""
        wanted = {key.replace("_", "-"): value for key, value in labels.items()}
        return [o for o in self.objects if o["kind"] == kind and wanted.items() <= o["metadata"]["labels"].items()]

    def build(self):
        """Loopback, names, the program on the path, folders that the pods' user may write."""
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        os.chmod(self.folder, 0o755)
        for name in ("bin", "work", "tmp"):
            (self.folder / name).mkdir()
        os.symlink(self.plan["program"], self.folder / "bin" / "freehold")
        os.symlink(self.plan["psql"], self.folder / "bin" / "psql")
        for name in ("work", "tmp"):
            os.chown(self.folder / name, USER, USER)
        password = next(s for s in self.of("Secret") if "password" in s["data"])
        self.password = base64.b64decode(password["data"]["password"]).decode()
        self.name_hosts()

    def name_hosts(self):
        """Each pod has an address of the loopback, the client service that of the first one."""
        lines, domain = ["127.0.0.1 localhost"], None
        for kind in self.of("StatefulSet"):
            for ordinal in range(4):
                args = kind["spec"]["template"]["spec"]["containers"][0]["args"]
                domain = next(a for a in args if a.startswith("--peer-advertise=")).split(").")[1].split(":")[0]
                pod = f"{kind['metadata']['name']}-{ordinal}"
                self.addresses[pod] = f"127.0.0.{len(self.addresses) + 1}"
                lines.append(f"{self.addresses[pod]} {pod}.{domain}")
        client = self.of("Service", **{"freehold-service": "client"})[0]["metadata"]["name"]
        lines.append(f"127.0.0.1 {client}.{domain.split('.', 1)[1]}")
        hosts = self.folder / "hosts"
        hosts.write_text("\n".join(lines) + "\n")
        subprocess.run(["mount", "--bind", hosts, "/etc/hosts"], check=True)

    def environment(self, container):
        """A container's variables, secrets filled in."""
        variables = {"PATH": os.environ["PATH"], "TMPDIR": str(self.folder / "tmp"), "HOME": str(self.folder / "tmp")}
        for entry in container.get("env", []):
            if "value" in entry:
                variables[entry["name"]] = self.local(entry["value"])
            elif "secretKeyRef" in entry["valueFrom"]:
                variables[entry["name"]] = self.password
        return variables

    def local(self, text):
        """Paths of a pod as paths of this stage."""
        paths = r"(?<![\w.-])(/etc/freehold|/have|/work|/tls)(?=[/\"\s]|$)"
        return re.sub(paths, rf"{self.folder}\1", text)

    def run(self, container, **more):
        """Runs a container with a shell script to its end."""
        script = self.local(container["args"][0])
        environment = {**self.environment(container), **more}
        command = [*container["command"], script]
        # `timeout` ends with 124, so that a script that never ends is an answer, too.
        command = ["timeout", str(self.plan["patience"]), *command]
        return subprocess.run(
            command, env=environment, user=USER, group=USER, extra_groups=[], capture_output=True, text=True
        )

    def certificates(self, **more):
        """The Job that makes certificates, with what kubectl would store mounted afterwards."""
        pod = self.of("Job", **{"app.kubernetes.io/component": "certs"})[0]["spec"]["template"]["spec"]
        done = self.run(pod["initContainers"][0], **more)
        if done.returncode != 0:
            return done, {}
        mounts = {"-ca": ["/have/authority"], "-node-tls": ["/have/node", "/etc/freehold/cluster", "/etc/freehold/client", "/tls"]}
        secrets = {}
        for secret in yaml.safe_load_all((self.folder / "work" / "secrets.yaml").read_text()):
            name = secret["metadata"]["name"]
            secrets[name] = secret["data"]
            for ending, folders in mounts.items():
                for folder in folders if name.endswith(ending) else []:
                    place = Path(f"{self.folder}{folder}")
                    place.mkdir(parents=True, exist_ok=True)
                    for key, data in secret["data"].items():
                        (place / key).write_bytes(base64.b64decode(data))
                        os.chmod(place / key, 0o440)
                        os.chown(place / key, 0, USER)
        return done, secrets


class Pod:
    """One pod of a StatefulSet."""

    def __init__(self, stage, kind, ordinal):
        self.stage = stage
        self.container = kind["spec"]["template"]["spec"]["containers"][0]
        self.grace = kind["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        self.name = f"{kind['metadata']['name']}-{ordinal}"
        self.address = stage.addresses[self.name]
        self.data = stage.folder / self.name
        self.log = stage.folder / f"{self.name}.log"
        self.process = None

    def start(self):
        """Its container, as the image's user; its volume is made if it is not there."""
        if not self.data.exists():
            self.data.mkdir()
            os.chown(self.data, USER, USER)
        arguments = [self.at_home(a) for a in self.container["args"]]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["freehold", *arguments], env=self.stage.environment(self.container),
                user=USER, group=USER, extra_groups=[], stdout=log, stderr=log,
            )

    def at_home(self, argument):
        """An argument with this pod's name, address and folders."""
        argument = argument.replace("$(POD_NAME)", self.name).replace("0.0.0.0", self.address)
        return self.stage.local(argument).replace("=/data", f"={self.data}")

    def probe(self, name):
        """Status of a probe; 0 if nobody answers."""
        probe = self.container[f"{name}Probe"]["httpGet"]
        port = next(p["containerPort"] for p in self.container["ports"] if p["name"] == probe["port"])
        try:
            with urllib.request.urlopen(f"http://{self.address}:{port}{probe['path']}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def becomes(self, name, status):
        """Waits until a probe has a status."""
        until = time.monotonic() + self.stage.plan["patience"]
        while time.monotonic() < until and self.process.poll() is None:
            if self.probe(name) == status:
                return True
            time.sleep(0.05)
        print(f"{self.name}: {self.log.read_text()[-1500:]}", file=sys.stderr)
        return False

    def end(self):
        """preStop, then SIGTERM; its exit codes, and whether it took no longer than it may."""
        began = time.monotonic()
        hook = self.container["lifecycle"]["preStop"]["exec"]["command"]
        hook = [word.replace("/data", str(self.data)) for word in hook]
        drained = subprocess.run(
            hook, env=self.stage.environment(self.container), user=USER, group=USER, extra_groups=[],
            capture_output=True, text=True, timeout=self.grace,
        )
        if drained.returncode != 0:
            print(f"{self.name}: {drained.stdout}{drained.stderr}", file=sys.stderr)
        self.process.send_signal(signal.SIGTERM)
        try:
            ended = self.process.wait(self.grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            ended = None
        return drained.returncode, ended, time.monotonic() - began < self.grace


class Writer:
    """A client that writes one row after the other through the client service, whatever happens."""

    def __init__(self, environment, hosts):
        self.environment = {**environment, "PGHOST": hosts, "PGPORT": environment["NODE_PORT"]}
        self.written = []
        self.errors = []
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.write)

    def sql(self, text):
        """One statement on a connection of its own."""
        command = ["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", text]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    def write(self):
        """Until it is told to end."""
        number = 0
        while not self.ending.is_set():
            number += 1
            done = self.sql(f"INSERT INTO rolling VALUES ({number})")
            if done.returncode == 0:
                self.written.append(number)
            else:
                self.errors.append(done.stderr.strip())

    def __enter__(self):
        self.made = self.sql("CREATE TABLE rolling (number int PRIMARY KEY)")
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()


def play(stage):
    """From nothing to a cluster that has grown and was updated."""
    stage.build()
    issue(stage)
    members, spares = (stage.of("StatefulSet", **{"freehold-set": s})[0] for s in ("nodes", "spares"))
    pods = [Pod(stage, members, n) for n in range(members["spec"]["replicas"])]
    for pod in pods:
        pod.start()
    for pod in pods:
        needed(pod.becomes("startup", 200), f"{pod.name} lives before there is a cluster")
        seen(pod.probe("readiness") == 503, f"{pod.name} is not ready before there is a cluster")
    found(stage, "the first time")
    for pod in pods:
        needed(pod.becomes("readiness", 200), f"{pod.name} is ready")
    found(stage, "again")
    test(stage, "in the new cluster")
    grow(stage, pods, members, spares)
    roll(stage, pods)
    wiped(stage, pods)
    test(stage, "at the end")
    for pod in pods:
        pod.process.send_signal(signal.SIGTERM)
    for pod in pods:
        seen(pod.process.wait(pod.grace) == 0, f"{pod.name} ends in order")


def issue(stage):
    """Certificates: made once, made again for other hosts only, by the same authority."""
    first, made = stage.certificates()
    needed(first.returncode == 0 and len(made) == 2, f"certificates are made {first.stderr.strip()}")
    second, again = stage.certificates()
    seen(again == made, f"a second run changes nothing {second.stdout.strip()} {second.stderr.strip()}")
    _, other = stage.certificates(HOSTS="elsewhere.example.com")
    ca = [next(data for name, data in s.items() if name.endswith("-ca")) for s in (made, other)]
    node = [next(data for name, data in s.items() if name.endswith("-node-tls")) for s in (made, other)]
    seen(ca[0] == ca[1], "other hosts leave the authority as it is")
    seen(node[0]["tls.crt"] != node[1]["tls.crt"], "other hosts get another certificate")
    stage.certificates()


def found(stage, when):
    """The Job that makes the cluster."""
    pod = stage.of("Job", **{"app.kubernetes.io/component": "init"})[0]["spec"]["template"]["spec"]
    done = stage.run(pod["containers"][0])
    needed(done.returncode == 0, f"the Job that makes the cluster, {when}: {done.stdout.strip()}{done.stderr.strip()}")


def test(stage, when):
    """`helm test`."""
    container = stage.of("Pod")[0]["spec"]["containers"][0]
    done = stage.run(container)
    reads = done.stdout.count("read at")
    seen(done.returncode == 0 and reads >= 4, f"helm test {when}: {reads} reads {done.stderr.strip()}")


def grow(stage, pods, members, spares):
    """`kubectl scale` by one, and a spare."""
    for pod in (Pod(stage, members, members["spec"]["replicas"]), Pod(stage, spares, 0)):
        pod.start()
        seen(pod.becomes("readiness", 200), f"{pod.name} is taken in")
        pods.append(pod)


def roll(stage, pods):
    """A rolling update beside a writer: no row that was acknowledged is lost."""
    container = stage.of("Pod")[0]["spec"]["containers"][0]
    environment = {**stage.environment(container), "PGSSLMODE": "verify-full", "PGTARGETSESSIONATTRS": "any"}
    environment["PGSSLROOTCERT"] = f"{stage.folder}/tls/ca.crt"
    with Writer(environment, ",".join(container_hosts(container))) as writer:
        seen(writer.made.returncode == 0, f"a table for the writer {writer.made.stderr.strip()}")
        for pod in reversed(pods):
            drained, ended, in_time = pod.end()
            seen(drained == 0, f"{pod.name} drains")
            seen(ended == 0 and in_time, f"{pod.name} ends within its time")
            pod.start()
            seen(pod.becomes("readiness", 200), f"{pod.name} is back")
    there = {int(n) for n in writer.sql("SELECT number FROM rolling").stdout.split()}
    lost = set(writer.written) - there
    seen(len(writer.written) > 10 and not lost, f"rolling update: {len(writer.written)} rows written, lost {lost}, errors {writer.errors[-3:]}")


def container_hosts(container):
    """The nodes that the test asks one by one."""
    return next(e["value"] for e in container["env"] if e["name"] == "NODES").split()


def wiped(stage, pods):
    """A node that has lost its disk comes back empty and is taken in, and the cluster goes on."""
    pod = pods[2]
    pod.process.kill()
    pod.process.wait()
    shutil.rmtree(pod.data)
    pod.start()
    seen(pod.becomes("readiness", 200), f"{pod.name} is back with an empty disk")


if __name__ == "__main__":
    play(Stage(json.loads(Path(sys.argv[1]).read_text())))
