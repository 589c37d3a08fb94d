"""The machine from inside where no SSH is open: one command that looks at what matters most.

The whole suite of tests/image needs SSH; through Azure's Run Command each of its questions would
take ten seconds.
"""

import json

from bakery.checks.result import CheckResult
from bakery.errors import BakeryError
from bakery.state import Generation
from bakery.targets.base import Target

_SCRIPT = r"""
import json, os, stat, subprocess, sys

def run(*words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          universal_newlines=True)
    return done.stdout.strip()

def tell(name, ok, detail=""):
    print(json.dumps([name, bool(ok), detail]))

failed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend")
tell("no unit has failed", not failed, failed)
rows = [line.split("\t") for line in run(
    "docker", "ps", "--all", "--format", "{{.Names}}\t{{.Status}}").splitlines()]
states = dict(row for row in rows if len(row) == 2)
for name in ("mysql", "mlflow", "traefik"):
    state = states.get("mlflow-%s-1" % name, "is not there")
    tell(name + " is healthy", "(healthy)" in state, state)
uuid = run("findmnt", "--noheadings", "--output", "UUID", "--mountpoint", "/var/lib/mlflow-data")
tell("the data disk is this deployment's", uuid.split("\n")[-1] == sys.argv[1], uuid)
for path in ("/etc/mlflow-bakery/environment.json", "/var/lib/mlflow-data/environment.json"):
    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else -1
    tell(path + " is root's alone", mode == 0o600, oct(mode))
    if mode >= 0:
        known = json.load(open(path))
        secrets = [known["storage"].get("key"), known.get("check_token")]
        shown = run("docker", "inspect", *states) if states else ""
        leaked = any(one and one in shown for one in secrets)
        tell("no secret of it is in docker inspect", states and not leaked)
for user in ("bake", "packer"):
    tell("there is no user " + user, not os.path.exists("/home/" + user))
"""


def check_by_command(target: Target, generation: Generation) -> list[CheckResult]:
    """Look at a machine from inside by one command, and return a result for each question.

    Raises:
        BakeryError: The machine does not answer.
    """
    words = ["python3", "-", target.deployment.data_disk_uuid]
    done = target.execute(generation, words, stdin=_SCRIPT, timeout=120)
    if done.code != 0:
        raise BakeryError(
            "the machine could not be looked at from inside", hint="./inv status", tail=done.err
        )
    rows = [json.loads(line) for line in done.out.splitlines() if line.startswith("[")]
    return [CheckResult(name, ok, detail, seconds=0.0) for name, ok, detail in rows]
