"""An environment becomes the files that the containers read."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping

from mlflow_bakery_machine.environment import Environment  # noqa: TC001
from mlflow_bakery_machine.files import Rendered
from mlflow_bakery_machine.quoting import (
    client_option,
    compose_value,
    pymysql_option,
    sql_string,
)

MYSQL, MLFLOW, TRAEFIK = 999, 1001, 1002
CHECK_HEADER = "X-Bakery-Check"
RETRY_AFTER = 5
"""Seconds; MLflow's client asks seven times more by default."""
SCHEMA = "mlflow"
COLLATION = "utf8mb4_0900_as_cs"  # As in my.cnf and migrate.py.
SERIAL = "X-Bakery-Serial"

# Refused whoever asks: the counters of all users, the assistant that trusts forwarded headers,
# and the gateway, which would make requests on behalf of others.
_DENIED = (
    "/metrics",
    "/gateway",
    "/api/2.0/mlflow/gateway-proxy",
    "/ajax-api/2.0/mlflow/gateway-proxy",
    "/api/3.0/mlflow/assistant",
    "/ajax-api/3.0/mlflow/assistant",
)

_CIPHERS = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
)


def render(
    environment: Environment,
    *,
    mysql_password: str,
    images: Mapping[str, Mapping[str, str]],
    traefik_static: str,
    admitted: bool = True,
) -> Dict[str, Rendered]:
    """Return the files below /run/mlflow-bakery by their path there.

    Unless clients are `admitted`, only who has the token of the checks gets in.
    """
    files = {
        "compose.env": Rendered(compose_variables(environment, images)),
        "mysql/init.sql": _for(MYSQL, init_sql(environment.mysql_user, mysql_password)),
        "mysql/client.cnf": _for(MYSQL, client_options(environment.mysql_user, mysql_password)),
        "mlflow/my.cnf": _for(MLFLOW, pymysql_options(environment.mysql_user, mysql_password)),
        "mlflow/storage": _for(MLFLOW, storage_access(environment)),
        "traefik/traefik.yaml": _for(TRAEFIK, traefik_static + acme_resolver(environment)),
        "traefik/dynamic/mlflow.yaml": _for(TRAEFIK, _yaml(traefik_dynamic(environment, admitted))),
    }
    if environment.certificate is not None and environment.key is not None:
        files["traefik/dynamic/certificate.pem"] = _for(TRAEFIK, environment.certificate)
        files["traefik/dynamic/key.pem"] = _for(TRAEFIK, environment.key)
    if environment.acme is not None and environment.acme.ca is not None:
        files["traefik/acme-ca.pem"] = _for(TRAEFIK, environment.acme.ca)
    return files


def compose_variables(environment: Environment, images: Mapping[str, Mapping[str, str]]) -> str:
    """Return the variables of compose.yaml; none is secret."""
    variables = {
        "MYSQL_IMAGE": images["mysql"]["reference"],
        "MLFLOW_IMAGE": images["mlflow"]["reference"],
        "TRAEFIK_IMAGE": images["traefik"]["reference"],
        "MLFLOW_HOSTNAME": environment.hostname,
        "MLFLOW_ARTIFACTS": artifacts_location(environment),
        "MLFLOW_BACKUPS": backups_container(environment.storage.container),
    }
    return "".join("{}={}\n".format(k, compose_value(v)) for k, v in variables.items())


def artifacts_location(environment: Environment) -> str:
    """Return where artifacts go: the one form that MLflow accepts.

    For Azurite, too; the connection string leads to it.
    """
    storage = environment.storage
    # MLflow knows these two hosts and no other.
    china = (storage.blob_endpoint or "").endswith("core.chinacloudapi.cn")
    host = "core.chinacloudapi.cn" if china else "core.windows.net"
    return "wasbs://{}@{}.blob.{}/".format(storage.container, storage.account, host)


def backups_container(artifacts: str) -> str:
    """Return the Blob container of the backups of what has its artifacts in another.

    One of its own: whoever may log in can list, read and remove what is among the artifacts.
    """
    return artifacts[:55].rstrip("-") + "-backups"


def init_sql(user: str, password: str) -> str:
    """Return what MySQL runs before it listens, at each start; all of it can be repeated."""
    account = sql_string(user) + "@'%'"
    secret = sql_string(password)
    return "\n".join(
        (
            "SET NAMES utf8mb4;",
            "CREATE DATABASE IF NOT EXISTS `{}` CHARACTER SET utf8mb4 COLLATE {};".format(
                SCHEMA, COLLATION
            ),
            "CREATE USER IF NOT EXISTS {} IDENTIFIED BY {};".format(account, secret),
            "ALTER USER {} IDENTIFIED BY {};".format(account, secret),
            "GRANT ALL PRIVILEGES ON `{}`.* TO {};".format(SCHEMA, account),
            # Nobody logs in as root: what needs its rights stands in this file.
            "ALTER USER 'root'@'localhost' ACCOUNT LOCK;",
            "",
        )
    )


def client_options(user: str, password: str) -> str:
    """Return the option file of mysql and mysqldump in the MySQL container."""
    return (
        "[client]\nsocket = /run/mysqld/mysqld.sock\ndefault-character-set = utf8mb4\n"
        "user = {}\npassword = {}\n".format(client_option(user), client_option(password))
    )


def pymysql_options(user: str, password: str) -> str:
    """Return the option file that MLflow's database driver reads."""
    return "[client]\nuser = {}\npassword = {}\n".format(
        pymysql_option(user), pymysql_option(password)
    )


def storage_access(environment: Environment) -> str:
    """Return how to reach Blob: a connection string; or, without a key, one that names an identity.

    The two programs that read it are entry.py and blob.py.
    """
    storage = environment.storage
    if storage.client_id is not None:
        endpoint = storage.blob_endpoint or "https://{}.blob.core.windows.net".format(
            storage.account
        )
        return "ClientId={};BlobEndpoint={}".format(storage.client_id, endpoint)
    if storage.blob_endpoint is None:
        where = "DefaultEndpointsProtocol=https;EndpointSuffix=core.windows.net"
    else:
        protocol = storage.blob_endpoint.split(":", 1)[0]
        where = "DefaultEndpointsProtocol={};BlobEndpoint={}".format(
            protocol, storage.blob_endpoint
        )
    return "AccountName={};AccountKey={};{}".format(storage.account, storage.key, where)


def acme_resolver(environment: Environment) -> str:
    """Return what Traefik's static configuration needs for ACME; empty without."""
    if environment.acme is None:
        return ""
    resolver: Dict[str, Any] = {
        "caServer": environment.acme.directory,
        "storage": "/acme/acme.json",
        "tlsChallenge": {},
    }
    if environment.acme.email:
        resolver["email"] = environment.acme.email
    if environment.acme.ca is not None:
        resolver["caCertificates"] = ["/etc/traefik/acme-ca.pem"]
    return "\ncertificatesResolvers:\n  acme: {}\n".format(_inline({"acme": resolver}))


def traefik_dynamic(environment: Environment, admitted: bool = True) -> Dict[str, Any]:
    """Return Traefik's routers, users and certificate."""
    tls: Dict[str, Any] = {"options": {"default": _tls_options()}}
    if environment.certificate is not None:
        folder = "/etc/traefik/dynamic/"
        tls["certificates"] = [
            {"certFile": folder + "certificate.pem", "keyFile": folder + "key.pem"}
        ]
    services: Dict[str, Any] = {
        "mlflow": {"loadBalancer": {"servers": [{"url": "http://mlflow:5000"}]}}
    }
    routers = _routers(environment)
    if environment.check_token and not admitted:
        routers["gate"] = _gate(environment, environment.check_token)
        # Without a server Traefik answers 503.
        services["nobody"] = {"loadBalancer": {"servers": []}}
    return {
        "http": {
            "routers": routers,
            "middlewares": _middlewares(environment),
            "services": services,
        },
        "tls": tls,
    }


def _routers(environment: Environment) -> Dict[str, Any]:
    host = "Host(`{}`)".format(environment.hostname)
    denied = " || ".join("PathPrefix(`{}`)".format(path) for path in _DENIED)
    tls = {"certResolver": "acme"} if environment.acme else {}
    return {
        # The page of runs asks which models the gateway has, and shows an error if it is refused.
        # MLflow says "none" by itself: no gateway is configured that it could forward this to.
        "no-gateway": _router(
            host + " && Method(`GET`) && Path(`/ajax-api/2.0/mlflow/gateway-proxy`)",
            400,
            ["limit", "headers", "login"],
            tls,
        ),
        "denied": _router(host + " && ({})".format(denied), 300, ["limit", "headers", "deny"], tls),
        # The only path without a login, and only exactly this one.
        "health": _router(host + " && Path(`/health`)", 200, ["limit", "headers"], tls),
        "mlflow": _router(host, 100, ["limit", "headers", "login", "serial"], tls),
    }


def _gate(environment: Environment, token: str) -> Any:
    """Return the router of those who are not let in yet: before every other one."""
    rule = "Host(`{}`) && !Header(`{}`, `{}`)".format(environment.hostname, CHECK_HEADER, token)
    tls = {"certResolver": "acme"} if environment.acme else {}
    return {**_router(rule, 1000, ["again"], tls), "service": "nobody"}


def _router(rule: str, priority: int, middlewares: List[str], tls: Dict[str, str]) -> Any:
    return {
        "entryPoints": ["websecure"],
        "rule": rule,
        "priority": priority,
        "middlewares": middlewares,
        "service": "mlflow",
        "tls": tls,
    }


def _middlewares(environment: Environment) -> Dict[str, Any]:
    users = ["{}:{}".format(user, digest) for user, digest in sorted(environment.users.items())]
    return {
        "login": {
            "basicAuth": {
                "users": users,
                "realm": "MLflow",
                "removeHeader": True,
                "headerField": "X-WebAuth-User",
            }
        },
        # Says, to those who may log in, which environment it is that Traefik has read.
        "serial": {"headers": {"customResponseHeaders": {SERIAL: str(environment.serial)}}},
        # Clients log in bursts; this is against a flood, not against use.
        "limit": {"rateLimit": {"average": 300, "burst": 600}},
        # No client has this address.
        "deny": {"ipAllowList": {"sourceRange": ["255.255.255.255/32"]}},
        "headers": {
            "headers": {
                "stsSeconds": 31536000,
                "contentTypeNosniff": True,
                "referrerPolicy": "same-origin",
                "customResponseHeaders": {"Server": ""},
                "customRequestHeaders": {CHECK_HEADER: ""},
            }
        },
        "again": {"headers": {"customResponseHeaders": {"Retry-After": str(RETRY_AFTER)}}},
    }


def _tls_options() -> Dict[str, Any]:
    return {"minVersion": "VersionTLS12", "sniStrict": True, "cipherSuites": list(_CIPHERS)}


def _for(owner: int, content: str) -> Rendered:
    return Rendered(content, uid=owner, gid=owner)


def _yaml(data: Any) -> str:
    # JSON is YAML, and the standard library writes it without a mistake.
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _inline(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False)
