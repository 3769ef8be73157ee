"""The activation service: the only place where target models run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ray import serve

from miclip.errors import BadArtefact, InvalidInput, NotFound
from miclip.models.predictions import top_predictions
from miclip.names import ModelName, UnitName, parse_model
from miclip.steering.decision import NOT_STEERED, Decision
from miclip.steering.edits import NO_EDITS, CompiledEdits
from miclip.v1 import activation_pb2 as pb
from miclip.v1 import resources_pb2
from miclip.wire.activation import write_predictions
from miclip.wire.common import write_kind, write_timings
from services.activation.steering import Request, RequestSteering, message_of
from services.metrics import series
from services.rpc import Call, Scope, Servicer, check_size, page_of, rpc
from services.state.active_atlases import ActiveAtlases
from services.state.policy_cache import PolicyCache
from services.wire.layers import layers_of
from services.wire.top_k import requested_top_k

if TYPE_CHECKING:
    from torch import Tensor

    from miclip.models.card import DictionaryCard, ModelCard
    from services.activation.batching import Row, RowOutput
    from services.activation.hosting import Hosted, Hosting

log = logging.getLogger("miclip.activation")


class ActivationServicer(Servicer):
    """Translates; the batching is in ``services.activation.batching``, the model in ``miclip.models``."""

    application = "activation"
    descriptor = pb.DESCRIPTOR.services_by_name["ActivationService"]

    async def start(self) -> None:
        """Load the models and start following the policies."""
        policies = PolicyCache(self.store)
        policies.start()
        self.steering = RequestSteering(policies)
        self.hosting = await asyncio.to_thread(_open_hosting, self.settings.redis_url)
        await self.hosting.preload()
        loops = (self.hosting.watch_gpus(), self.hosting.watch_drift())
        self._background = [asyncio.create_task(loop) for loop in loops]

    @rpc(Scope.READ)
    async def ListModels(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        """List the models of the catalogue by their cards; loads none of them, and leaves out those that are broken."""
        ids = await asyncio.to_thread(self.hosting.model_ids)
        page, token = page_of(ids, request, self.settings.max_page_size)
        listed = [await self._listed(model) for model in page]
        return pb.ListModelsResponse(models=[model for model in listed if model], next_page_token=token)

    @rpc(Scope.READ)
    async def GetModel(self, request: pb.GetModelRequest, call: Call) -> pb.GetModelResponse:
        """Describe one model, with the limits of this server."""
        with _blaming("name"):
            card = await self.hosting.card(parse_model(request.name, field="name").model)
        model = await self._model(card)
        model.labels.extend(card.labels)
        return pb.GetModelResponse(model=model, limits=self._limits())

    @rpc(Scope.READ)
    async def Predict(self, request: pb.PredictRequest, call: Call) -> pb.PredictResponse:
        """Classify images, steered or not, with the unsteered answer beside it when asked for."""
        async with self._using(request.model) as hosted:
            return await self._predict(request, hosted, call)

    async def _predict(self, request: pb.PredictRequest, hosted: Hosted, call: Call) -> pb.PredictResponse:
        top_k = requested_top_k(request, self.settings.max_top_k)
        decision = await self._steered(request, hosted, call)
        with hosted.batcher.announced():
            images, seconds = await self._decode(request.images, hosted)
        watched = hosted.drift.due() if call.external else ()
        rows = _rows(images, decision.edits, () if decision.edits else watched)
        baseline = request.include_baseline and bool(decision.edits)
        outputs, times = await hosted.batcher.run([*rows, *_rows(images, NO_EDITS, watched)] if baseline else rows)
        hosted.drift.observe(outputs)
        check_finite(outputs, request)
        seconds |= {"queue": times.queue, "forward": times.forward}
        applied = message_of(decision, request.policy)
        response = pb.PredictResponse(steering=applied, weights_sha256=hosted.target.weights_sha256)
        for index in range(len(images)):
            result = response.results.add()
            result.predictions.extend(_predictions(outputs[index], hosted, top_k))
            if request.include_baseline:
                unsteered = outputs[index + len(images)] if baseline else outputs[index]
                result.baseline.extend(_predictions(unsteered, hosted, top_k))
        response.timings.extend(write_timings(seconds))
        return response

    @rpc(Scope.READ)
    async def CaptureActivations(
        self, request: pb.CaptureActivationsRequest, call: Call
    ) -> pb.CaptureActivationsResponse:
        """Read pooled activations, all of a layer or the strongest."""
        async with self._using(request.model) as hosted:
            return await self._capture(request, hosted, call)

    async def _capture(
        self, request: pb.CaptureActivationsRequest, hosted: Hosted, call: Call
    ) -> pb.CaptureActivationsResponse:
        target = hosted.target
        check_size(request.layers, "layers", 1, len(target.layers))
        layers = layers_of(request.layers, target.name, target.layers)
        top_k = requested_top_k(request, self.settings.max_top_k, default=0)
        decision = await self._steered(request, hosted, call)
        with hosted.batcher.announced():
            images, seconds = await self._decode(request.images, hosted)
        outputs, times = await hosted.batcher.run(_rows(images, decision.edits, layers))
        check_finite(outputs, request)
        seconds |= {"queue": times.queue, "forward": times.forward}
        return pb.CaptureActivationsResponse(
            results=[_activations(output, target.name, layers, top_k) for output in outputs],
            steering=message_of(decision, request.policy),
            timings=write_timings(seconds),
            weights_sha256=target.weights_sha256,
        )

    @contextlib.asynccontextmanager
    async def _using(self, name: str) -> AsyncIterator[Hosted]:
        """Hold the model of a request until the block ends; raises what ``Hosting.use`` raises."""
        model = parse_model(name, field="model").model
        async with contextlib.AsyncExitStack() as stack:
            with _blaming("model"):
                hosted = await stack.enter_async_context(self.hosting.use(model))
            yield hosted

    async def _listed(self, model: str) -> pb.Model | None:
        """A model of the list; None where its files are broken, which GetModel says to whoever asks for it."""
        try:
            return await self._model(await self.hosting.card(model))
        except BadArtefact as error:
            log.warning("%s is not listed: %s", model, error.message)
            return None

    async def _model(self, card: ModelCard) -> pb.Model:
        atlas_id, manifest = await self.hosting.atlas_of(card)
        model = pb.Model(
            name=str(ModelName(card.model)),
            weights_sha256=card.weights_sha256,
            input_size=card.input_size,
            atlas=f"atlases/{atlas_id}" if atlas_id else "",
            device=self.hosting.device,
        )
        for layer in card.layers:
            entry = manifest.layer(layer.name) if manifest else None
            model.layers.add(
                name=f"{model.name}/layers/{layer.name}",
                kind=write_kind(resources_pb2.LayerKind, layer.kind),
                units=layer.units,
                aligned=entry is not None,
                default_embedding=write_kind(resources_pb2.UnitEmbedding, entry.unit_embedding) if entry else None,
                dictionary=_dictionary(layer.dictionary) if layer.dictionary else None,
            )
        return model

    def _limits(self) -> pb.Limits:
        values = {name: getattr(self.settings, name, None) for name in pb.Limits.DESCRIPTOR.fields_by_name}
        for name in ("request_timeout", "max_watch", "watch_heartbeat"):
            values[f"{name}_seconds"] = getattr(self.settings, f"{name}_s")
        return pb.Limits(**values)

    async def _steered(self, request: Request, hosted: Hosted, call: Call) -> Decision:
        """What steering the request gets, counted when a client asks."""
        decision = await self._decision(request, hosted, call)
        if call.external:
            series.STEERING_OUTCOMES.labels(hosted.target.name, decision.outcome.value).inc()
        return decision

    async def _decision(self, request: Request, hosted: Hosted, call: Call) -> Decision:
        kind = request.WhichOneof("steering")
        if kind is None:
            return NOT_STEERED
        if kind == "policy":
            return await self.steering.by_policy(request.policy, hosted.target, call)
        messages = request.edits.edits
        relative = any(message.relative_to_max for message in messages)
        maximum = await self.hosting.maxima(hosted) if relative else _no_maximum
        return await self.steering.inline(messages, hosted.target, maximum, call)

    async def _decode(self, images: Sequence[bytes], hosted: Hosted) -> tuple[list[Tensor], dict[str, float]]:
        check_size(images, "images", 1, self.settings.max_images)
        started = time.perf_counter()
        decoded = await self.hosting.decode(images, hosted.target)
        return decoded, {"decode": time.perf_counter() - started}


def _open_hosting(redis_url: str) -> Hosting:
    from services.activation.hosting import Hosting  # torch and timm, which only the replica needs

    return Hosting(ActiveAtlases(redis_url))


def _no_maximum(_layer: str, _unit: int) -> float:
    return 0.0


def check_finite(outputs: Sequence[RowOutput], request: Request) -> None:
    """Refuse edits, each in its range, that together drive the model out of the range of its numbers."""
    steering = request.WhichOneof("steering")
    values = (value for output in outputs for value in (output.logits, *output.activations.values()))
    if steering and not all(value.isfinite().all() for value in values):
        text = f"{steering}: under these edits the model's outputs are not finite. Use smaller values, or fewer edits."
        raise InvalidInput(text, field=steering, allowed="edits under which all outputs are finite")


def _rows(images: Sequence[Tensor], edits: CompiledEdits, capture: tuple[str, ...] = ()) -> list[Row]:
    from services.activation.batching import Row

    return [Row(image, edits, capture) for image in images]


def _dictionary(card: DictionaryCard) -> pb.Dictionary:
    return pb.Dictionary(sha256=card.sha256, activation=card.activation, k=card.k, **card.quality)


@contextlib.contextmanager
def _blaming(field: str) -> Iterator[None]:
    """Name the field of the request that names the model, where there is no such model."""
    try:
        yield
    except NotFound as error:
        raise NotFound(f"{field}: {error.message}", field=field, allowed=error.allowed) from None


def _predictions(output: RowOutput, hosted: Hosted, top_k: int) -> list[pb.Prediction]:
    return write_predictions(top_predictions(output.logits.numpy(), hosted.target.labels, top_k))


def _activations(output: RowOutput, model: str, layers: tuple[str, ...], top_k: int) -> pb.ImageActivations:
    return pb.ImageActivations(layers=[_layer(output.activations[name], model, name, top_k) for name in layers])


def _layer(values: Tensor, model: str, layer: str, top_k: int) -> pb.LayerActivations:
    name = f"models/{model}/layers/{layer}"
    if not top_k:
        return pb.LayerActivations(layer=name, values=values.tolist())
    best: Any = values.topk(min(top_k, len(values)))
    strongest = [
        _unit(model, layer, unit, value)
        for unit, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return pb.LayerActivations(layer=name, strongest=strongest)


def _unit(model: str, layer: str, unit: int, value: float) -> pb.UnitActivation:
    return pb.UnitActivation(unit=str(UnitName(model, layer, unit)), value=value)


app = serve.deployment(name="activation")(ActivationServicer).bind()
