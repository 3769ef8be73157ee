"""The plan that asks each service whether it answers."""

from __future__ import annotations

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from miclip.client.plan import Plan, Rpc
from miclip.errors import MiclipError
from miclip.local_server import APPLICATIONS


def health() -> Plan[dict[str, str]]:
    """Ask each service whether it serves; needs no key and raises nothing.

    Returns:
        By service: ``"SERVING"``, another status of ``grpc.health.v1``, or why it does not answer.
    """
    answers: dict[str, str] = {}
    for application in APPLICATIONS:
        try:
            request: Message = health_pb2.HealthCheckRequest()
            response = yield Rpc(application, "Check", request, False)
            answers[application] = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
        except MiclipError as error:
            answers[application] = error.message
    return answers
