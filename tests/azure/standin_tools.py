"""The tools of a stand-in machine: a folder is its root, these scripts are its programs.

A script that the product sends runs for real, with every path of ours led into that folder.
"""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

from tests.azure.machines import Output

PATHS = (
    "usr/lib/mlflow-bakery|usr/share/mlflow-bakery|run/mlflow-bakery"
    "|var/lib/mlflow-data|etc/mlflow-bakery|dev/disk/azure|dev/mlflow-disks|etc/ssh"
)
"""What is looked for below a stand-in's root, not in this host's."""
_OURS = re.compile(rf"(?<![\w./-])/({PATHS})")
_TIMEOUT = 60
_PROGRAM = Path(__file__).with_name("standin_program.py")

_DUTY = """#!/bin/sh
# As the machine's own `duty`: each verb leaves a mark that the stand-in looks at.
cd "{root}"
data=var/lib/mlflow-data
case $1 in
    activate) : >run/wanted; echo null ;;
    admit) : >etc/mlflow-bakery/admitted; echo null ;;
    close) rm -f etc/mlflow-bakery/admitted; echo null ;;
    count) if [ -e $data ]; then cat $data/counts.json; else echo '{{}}'; fi ;;
    quiesce)
        if [ -e $data ]; then cat $data/counts.json; else echo '{{}}'; fi
        rm -f run/wanted etc/mlflow-bakery/admitted $data ;;
    standby|wait) echo null ;;
    *) echo "duty: $1?" >&2; exit 2 ;;
esac
"""
_PROGRAMS = {
    "usr/lib/mlflow-bakery/duty": _DUTY,
    "usr/lib/mlflow-bakery/prepare": "#!/bin/sh\nexit 0\n",
    "usr/lib/mlflow-bakery/wait-ready": "#!/bin/sh\nexit 0\n",
    # Whatever `python3` is on this host: to ask pyenv each time takes half a second.
    "bin/python3": f'#!/bin/sh\nexec {sys.executable} -SE "$@"\n',
    "bin/sudo": '#!/bin/sh\nexec "$@"\n',
    "bin/cloud-init": "#!/bin/sh\necho 'status: done'\n",
    "bin/mountpoint": '#!/bin/sh\nshift $(($# - 1)); test -e "$1"\n',
    "bin/e2fsck": "#!/bin/sh\nexit 0\n",
    "bin/debugfs": '#!/bin/sh\n# debugfs -R "cat /NAME" DEVICE\ncat "$3${{2#cat }}"\n',
    "bin/docker": f'#!/bin/sh\nexec {sys.executable} {_PROGRAM} docker "{{root}}" "$@"\n',
    "usr/lib/mlflow-bakery/backup": (
        f'#!/bin/sh\nexec {sys.executable} {_PROGRAM} backup "{{root}}" "$@"\n'
    ),
    "bin/journalctl": '#!/bin/sh\ncat "{root}/console.log"\n',
    "bin/systemctl": """#!/bin/sh
case "$*" in
    *is-active*) test -e "{root}/var/lib/mlflow-data" ;;
    *stop*mlflow.service*) rm -f "{root}/run/wanted" "{root}/var/lib/mlflow-data" ;;
    *start*mlflow.service*) : >"{root}/run/wanted" ;;
esac
""",
}


def install(root: Path) -> None:
    """Write the programs into a machine's root."""
    for name, text in _PROGRAMS.items():
        program = root / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(text.format(root=root), encoding="utf-8")
        program.chmod(stat.S_IRWXU)
    for name in ("run/mlflow-bakery", "var/lib", "etc/ssh", "etc/mlflow-bakery"):
        (root / name).mkdir(parents=True, exist_ok=True)


def execute(root: Path, script: str, parameters: dict[str, str]) -> Output:
    """Run a script in a machine; its parameters are in its environment."""
    inside = _OURS.sub(lambda found: f"{root}{found[0]}", script)
    path = f"{root}/bin{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    try:
        done = subprocess.run(
            ["bash", "-c", inside],
            env={"PATH": path, "LC_ALL": "C.UTF-8", **parameters},
            cwd=root, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Output(124, "", f"the script did not end within {_TIMEOUT} s")
    return Output(done.returncode, done.stdout, done.stderr)
