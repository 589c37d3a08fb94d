"""The verbs: parse, call, print, exit code. `./inv --list` shows them."""

import sys
from pathlib import Path

from invoke import Context, Exit

from bakery import console, errors, settings, usage
from bakery.verbs import NAME, number, verb
from bakery.verbs.account import cost, doctor  # noqa: F401 - invoke finds them here
from bakery.verbs.deployments import deploy, destroy  # noqa: F401
from bakery.verbs.images import images, lock, prune, refresh  # noqa: F401 - invoke finds them here
from bakery.verbs.training import gc, train  # noqa: F401

usage.refuse_clearly()

_BASE = {
    "base": "ubuntu-20.04 (default), ubuntu-22.04, ubuntu-24.04 or debian-13",
    "driver": "how machines run on this host: nspawn",
}


@verb(
    **_BASE,
    force="bake even when nothing has changed",
    keep="`on-error` leaves a failed bake's machine running",
    render="only write every file for Packer into this folder",
    target=NAME["target"],
    json="print the manifest",
)
def bake(
    context: Context,
    base: str | None = None,
    driver: str | None = None,
    target: str | None = None,
    force: bool = False,
    keep: str = "never",
    render: str | None = None,
    json: bool = False,
) -> None:
    """Bake an image: base, Docker, the three container images, the server's files."""
    from bakery.bake import bake as bake_image
    from bakery.bake import render_only

    if keep not in {"never", "on-error"}:
        raise errors.InputError(f"--keep {keep}: not known", hint="--keep never|on-error")
    found = settings.load(base=base, driver=driver, target=target)
    if render:
        render_only(found, Path(render))
        return
    manifest = bake_image(found, force=force, keep=keep == "on-error")
    if json:
        sys.stdout.write(manifest.model_dump_json(indent=2, by_alias=True) + "\n")


@verb(**NAME, **_BASE)
def up(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    base: str | None = None,
    driver: str | None = None,
) -> None:
    """Bake if needed, deploy, check, and print how to reach it."""
    from bakery.up import up as bring_up

    with console.total_time():
        server = bring_up(settings.load(name=name, target=target, base=base, driver=driver))
    console.show_access(server)


@verb(**NAME, json="print the results as JSON")
def check(
    context: Context, name: str | None = None, target: str | None = None, json: bool = False
) -> None:
    """Check what runs: testinfra in the machine, HTTPS from outside."""
    from bakery.up import check_server

    found = settings.load(name=name, target=target)
    console.show_results(check_server(found), as_json=json)


@verb(**NAME, json="print it as JSON")
def status(
    context: Context, name: str | None = None, target: str | None = None, json: bool = False
) -> None:
    """What runs: URL, image, generation, readiness, disk, certificate."""
    from bakery.status import status as read_status

    console.show_status(read_status(settings.load(name=name, target=target)), as_json=json)


@verb(**NAME, discard_newer="go back to the data of before, too; a backup of these is kept")
def rollback(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    discard_newer: bool = False,
) -> None:
    """Serve from the generation before, which `deploy` keeps; no run is lost."""
    from bakery.deploy import rollback as roll_back

    found = settings.load(name=name, target=target)
    console.show_access(roll_back(found, discard_newer=discard_newer))


@verb(**NAME, json="print it as JSON")
def history(
    context: Context, name: str | None = None, target: str | None = None, json: bool = False
) -> None:
    """What ran when: generations, images, versions, who, how long, how it ended."""
    from bakery.status import history as read_history

    console.show_history(read_history(settings.load(name=name, target=target)), as_json=json)


@verb(
    **NAME,
    add="let this user log in, or give them another password",
    remove="let this user log in no more",
    list="who may log in (also without any option)",
    password_stdin="with --add: read the password from standard input instead of making one",
)
def users(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    add: str | None = None,
    remove: str | None = None,
    list: bool = False,
    password_stdin: bool = False,
) -> None:
    """Who may log in: add, remove, list; at once, without a restart."""
    from bakery import users as people

    if (add is not None) + (remove is not None) + list > 1:
        raise errors.InputError("more than one thing at once", hint="--add, --remove or --list")
    found = settings.load(name=name, target=target)
    if add is not None:
        given = console.read_password() if password_stdin else settings.user_password()
        password = people.add(found, add, given, show=sys.stdout.isatty())
        console.show_password(found, add, password, given=given is not None)
    elif remove is not None:
        people.remove(found, remove)
    else:
        sys.stdout.write("".join(f"{one}\n" for one in people.listed(found)))


@verb(
    **NAME,
    password="only the password of the deployment's own user",
    storage_key="only the storage key",
    password_stdin="read the new password from standard input instead of making one",
)
def rotate(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    password: bool = False,
    storage_key: bool = False,
    password_stdin: bool = False,
) -> None:
    """A new password and a new storage key; the old ones end at once."""
    from bakery import users as people

    both = password == storage_key
    given = console.read_password() if password_stdin else None
    found = settings.load(name=name, target=target)
    people.change(found, password=both or password, storage_key=both or storage_key, given=given)
    console.show_rotated(found, password=both or password)


@verb(**NAME)
def start(context: Context, name: str | None = None, target: str | None = None) -> None:
    """Serve again after `stop` or a reboot of this host."""
    from bakery.deploy import start as start_server

    console.show_access(start_server(settings.load(name=name, target=target)))


@verb(**NAME, role="training: only the training machine; `deploy --role training` boots it again")
def stop(
    context: Context, name: str | None = None, target: str | None = None, role: str = "server"
) -> None:
    """Shut the machines down; `start` serves again."""
    from bakery import training
    from bakery.deploy import stop as stop_all

    training.check_role(role)
    stop_machines = training.stop_alone if role == "training" else stop_all
    stop_machines(settings.load(name=name, target=target))


@verb(**NAME, gib="how large, in GiB; it never shrinks (default: the setting data_disk_gib)")
def resize(
    context: Context, name: str | None = None, target: str | None = None, gib: str = ""
) -> None:
    """Make the data disk larger, on the running server."""
    from bakery.deploy import resize as resize_disk

    wanted = number("gib", gib) if gib else None
    found = settings.load(name=name, target=target, data_disk_gib=wanted)
    resize_disk(found, found.data_disk_gib)


@verb(
    **NAME,
    shell="bash (default), zsh, sh, fish, powershell or dotenv",
    write="write it into this file instead (its own block only, mode 0600)",
    show_password="print the password even on a terminal",
    json="print it as JSON",
)
def env(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    shell: str = "bash",
    write: str | None = None,
    show_password: bool = False,
    json: bool = False,
) -> None:
    """What a client needs: eval "$(./inv env)"."""
    from bakery.status import client_environment

    found = settings.load(name=name, target=target)
    shown = show_password or write is not None or not sys.stdout.isatty()
    console.show_environment(
        client_environment(found, password=shown), shell=shell, write=write, as_json=json
    )


@verb(
    **NAME,
    service="mysql, migrate, mlflow, traefik or machine; also as a word: ./inv logs mysql",
    lines="how many at most (default: 100, or all with --since)",
    since="so long ago (90s, 10m, 2h, 1d), or a time such as 2026-11-23T08:30",
    follow="go on with what is added, until Ctrl-C",
)
def logs(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    service: str = "mlflow",
    lines: str = "",
    since: str = "",
    follow: bool = False,
) -> None:
    """A service's log: its end, or all since a time."""
    from bakery import inside

    found = settings.load(name=name, target=target)
    count = number("lines", lines) if lines else None
    raise Exit(code=inside.logs(found, service, lines=count, since=since, follow=follow))


@verb(**NAME, command="run this instead of a shell; also as words: ./inv ssh df -h")
def ssh(
    context: Context, name: str | None = None, target: str | None = None, command: str = ""
) -> None:
    """Log in to the machine, or run a command in it; its exit code is ours."""
    from bakery.inside import ssh_command

    found = settings.load(name=name, target=target)
    raise Exit(code=console.hand_over(ssh_command(found, command or context.remainder)))


@verb(
    **NAME,
    lines="how many at most (default: 100)",
    follow="go on with what is added, until Ctrl-C",
)
def console_(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    lines: str = "",
    follow: bool = False,
) -> None:
    """What the machine wrote to its console: for one that nobody can log in to."""
    from bakery import inside

    found = settings.load(name=name, target=target)
    count = number("lines", lines) if lines else None
    raise Exit(code=inside.console(found, lines=count, follow=follow))


@verb(**NAME, list="only show what there is and where it lies", json="print it as JSON")
def backup(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    list: bool = False,
    json: bool = False,
) -> None:
    """Dump the database while it serves: verified, and copied to Blob."""
    from bakery import backup as backups

    found = settings.load(name=name, target=target)
    if list:
        console.show_backups(backups.backups(found), as_json=json)
    else:
        console.show_json(backups.backup(found), wanted=json)


@verb(
    **NAME,
    backup="its name, as `backup --list` shows it, or `newest`",
    drill="only load it into a MySQL of its own and compare; nothing is touched",
    replace_data="replace a database that has runs, after a backup of it",
    from_blob="take the copy in Blob even if there is one on the data disk",
    json="print what was restored as JSON",
)
def restore(
    context: Context,
    backup: str,
    name: str | None = None,
    target: str | None = None,
    drill: bool = False,
    replace_data: bool = False,
    from_blob: bool = False,
    json: bool = False,
) -> None:
    """Serve from a backup; --drill only tries it."""
    from bakery import backup as backups

    found = settings.load(name=name, target=target)
    done = backups.restore(
        found, backup, drill=drill, replace_data=replace_data, from_blob=from_blob
    )
    console.show_json(done, wanted=json)


@verb(**NAME)
def storage(context: Context, name: str | None = None, target: str | None = None) -> None:
    """Make the artifact store: account, container, key (locally Azurite); idempotent."""
    from bakery.deploy import storage as make_storage

    blob = make_storage(settings.load(name=name, target=target))
    sys.stdout.write(f"{blob.endpoint}/{blob.container}\n")


@verb(json="print it as JSON", rows="which rows, such as a,d (all)", runs="how often each")
def bench(
    context: Context, json: bool = False, rows: str = "a,b,c,d,e,f,g", runs: str = "3"
) -> None:
    """The performance table."""
    from bakery.bench import bench as measure

    found = settings.load(name="bench")
    measure(found, rows=rows.split(","), runs=number("runs", runs), as_json=json)


@verb(only="lint, unit, slow, e2e, azure, browser or matrix")
def test(context: Context, only: str = "") -> None:
    """Everything: lint, types, unit tests, and the whole path on this machine."""
    from bakery.suite import run_suite

    raise Exit(code=run_suite(only))
