"""What every RPC shares: authentication, limits, request id, deadline, errors, logs, metrics and health.

A servicer is a plain class; each method is wrapped once and only translates between protos and the library:

    from miclip.v1 import retrieval_pb2 as pb
    from services.rpc import Call, Scope, Servicer, rpc

    class RetrievalServicer(Servicer):
        application = "retrieval"
        descriptor = pb.DESCRIPTOR.services_by_name["RetrievalService"]

        async def start(self) -> None:                      # before the first request; heavy imports belong here
            self.atlases = await asyncio.to_thread(open_atlases)

        @rpc(Scope.READ)
        async def DescribeUnits(self, request: pb.DescribeUnitsRequest, call: Call) -> pb.DescribeUnitsResponse:
            check_range(request.top_k, "top_k", 1, self.settings.max_top_k)   # raises InvalidInput: just let it
            embedded = await self.peer("aligner").call("EmbedTexts", pb_aligner.EmbedTextsRequest(texts=...))
            return pb.DescribeUnitsResponse(...)

        @rpc(Scope.READ)                                    # server streaming: an async generator
        async def WatchSomething(self, request, call):
            yield pb.Something()

    app = serve.deployment(name="retrieval")(RetrievalServicer).bind()    # what the Serve config imports

Raise the errors of ``miclip.errors``; anything else becomes INTERNAL with a fixed text. What Serve sees is
``async def DescribeUnits(self, request, grpc_context=None)``. Without ``grpc_context`` the call came from another
service by handle: it was authenticated where it entered, and errors are raised as they are.
"""

from __future__ import annotations

from miclip.texts import check_text
from services.rpc.auth import Principal
from services.rpc.limits import check_range, check_size, page_of
from services.rpc.peers import Peer
from services.rpc.servicer import Call, Servicer, rpc
from services.state.keys import Scope

__all__ = [
    "Call",
    "Peer",
    "Principal",
    "Scope",
    "Servicer",
    "check_range",
    "check_size",
    "check_text",
    "page_of",
    "rpc",
]
