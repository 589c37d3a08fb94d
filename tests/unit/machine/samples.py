"""Environments for the tests of the machine's scripts."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
UUID = "5f0c1e2a-1111-4222-8333-444455556666"
SYMBOLS = "".join(chr(code) for code in range(32, 127))
IMAGES = {
    name: {"reference": f"mlflow-bakery/{name}:1", "image_id": "sha256:0", "version": "1"}
    for name in ("mysql", "traefik", "mlflow")
}


def environment_data(**changes: Any) -> dict[str, Any]:
    """Return an environment as cloud-init brings it, with some values changed."""
    return {
        "schema": 1,
        "serial": 1,
        "deployment": "mlflow",
        "hostname": "mlflow.bakery.internal",
        "data_disk": {"uuid": UUID, "first": True},
        "users": {"mlflow": "$2b$05$abcdefghijklmnopqrstuv", "an user": "$2b$05$x"},
        "mysql": {"user": "mlflow", "password": None},
        "storage": {
            "account": "devstoreaccount1",
            "container": "mlflow",
            "key": "Zm9v+/==",
            "blob_endpoint": "http://10.88.0.1:10000/devstoreaccount1",
        },
        "tls": {"certificate": "CERTIFICATE\n", "key": "KEY\n"},
        "acme": None,
        **changes,
    }


def environment_text(**changes: Any) -> str:
    """Return such an environment as JSON."""
    return json.dumps(environment_data(**changes))


# The lines of a dump by mysqldump.
DUMP = rb"""-- MySQL dump
CREATE TABLE `alembic_version` (
INSERT INTO `alembic_version` VALUES ('dc11669786a5');
CREATE TABLE `tags` (
INSERT INTO `tags` VALUES ('a','x),(y'),('b','it\'s ),( \\'),('c',''),('d',NULL),('e',0xFF);
INSERT INTO `tags` VALUES ('f','line\nbreak');
CREATE TABLE `empty` (
/*!50003 CREATE*/ /*!50017 DEFINER=`mlflow`@`%`*/ /*!50003 TRIGGER `t` BEFORE UPDATE ON `tags`
-- Dump completed on 2026-11-23  8:00:00
""".splitlines(keepends=True)
