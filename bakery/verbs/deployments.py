"""The verbs that make a deployment and remove one; both can tell first what they would do."""

from invoke import Context

from bakery import console, settings
from bakery.verbs import NAME, verb

_PLAN = "only tell what would be created, changed, deleted"


@verb(
    **NAME,
    image="deploy this image (default: the newest)",
    replace="make a new generation even if nothing has changed",
    new_data_disk="begin with an empty data disk when the old one is gone",
    plan=_PLAN,
    json="with --plan: print it as JSON",
    role="server (default), or training: a second machine with Docker and no server",
)
def deploy(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    image: str | None = None,
    replace: bool = False,
    new_data_disk: bool = False,
    role: str = "server",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Serve from the newest image; nothing to do when it already does."""
    from bakery import tables, targets, training
    from bakery.deploy import deploy as deploy_image

    training.check_role(role)
    found = settings.load(name=name, target=target)
    if plan:
        make = training.plan if role == "training" else targets.plan_deploy
        tables.show_plan(make(found, image=image, replace=replace), as_json=json)
        return
    if role == "training":
        console.show_training(found, training.deploy(found, image=image, replace=replace))
        return
    server = deploy_image(found, image=image, replace=replace, new_data_disk=new_data_disk)
    console.show_access(server)


@verb(
    **NAME,
    with_data="also destroy the data disk, blobs and secrets",
    yes="do not ask",
    role="training: only the training machine, and the server stays",
    plan=_PLAN,
    json="with --plan: print it as JSON",
)
def destroy(
    context: Context,
    name: str | None = None,
    target: str | None = None,
    with_data: bool = False,
    yes: bool = False,
    role: str = "server",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Remove machine and network; data and artifacts stay unless --with-data."""
    from bakery import tables, targets, training
    from bakery.deploy import destroy as destroy_server

    training.check_role(role)
    found = settings.load(name=name, target=target)
    if role == "training":
        if plan:
            tables.show_plan(training.destroy_plan(found), as_json=json)
        else:
            training.destroy(found)
        return
    if plan:
        tables.show_plan(targets.plan_destroy(found, with_data=with_data), as_json=json)
        return
    if with_data and not yes:
        console.confirm(found.name)
    destroy_server(found, with_data=with_data)
