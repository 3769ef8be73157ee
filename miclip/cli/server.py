"""``miclip serve``, ``stop`` and ``status``: the server of this machine, and how it is."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

import miclip
from miclip.cli import output, policies
from miclip.cli.connect import client
from miclip.cli.examples import example_image, short
from miclip.errors import AlreadyExists, NotReady, Unreachable
from miclip.names import parse_layer
from miclip.settings import settings

if TYPE_CHECKING:
    from miclip.client import MiclipClient
    from miclip.local_server import ServerInfo
    from miclip.v1.activation_pb2 import Model

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when the server is ready; it goes on running.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of gRPC; 0 takes any. Default 9000, or any.")]
HttpPort = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of /-/healthz. Default 8000, or any.")]
MetricsPort = Annotated[int | None, typer.Option(min=0, max=65535, help="Port of /metrics. Default 9464, or any.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Redis = Annotated[str, typer.Option(help="Redis to use, redis://HOST:PORT/DB; default an embedded one.")]


def serve(  # the options of the command
    detach: Detach = False,
    port: Port = None,
    http_port: HttpPort = None,
    metrics_port: MetricsPort = None,
    device: Device = "",
    redis_url: Redis = "",
    as_json: output.Json = False,
) -> None:
    """Start the four services and wait until all answer.

    Runs until Ctrl-C; with --detach it returns when the server is ready, and `miclip stop` ends it.
    """
    from services.node import control

    ports = {"MICLIP_GRPC_PORT": port, "MICLIP_HTTP_PORT": http_port, "MICLIP_METRICS_PORT": metrics_port}
    _configure(**ports, MICLIP_DEVICE=device, MICLIP_REDIS_URL=redis_url)
    running = control.status()
    if running and not detach:
        raise AlreadyExists(f"A server runs already at {running.grpc}; `miclip stop` ends it.")
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell script starts what it puts behind deaf to SIGINT
        signal.signal(number, _interrupt)
    try:
        info = running or _start()
    except KeyboardInterrupt:
        output.note("Stopped before it was ready.")
        raise typer.Exit(130) from None
    value = _server_value(info)
    if detach:
        output.emit(value, as_json, lambda: _show_server(value, detach, bool(running)))
        return
    try:
        output.emit(value, as_json, lambda: _show_server(value, detach, bool(running)))
        _wait(info)
    except KeyboardInterrupt:
        output.note("Stopping.")
    finally:  # whatever ends this command, a closed pipe among it, ends its server
        control.stop()


def stop(as_json: output.Json = False) -> None:
    """End the server of this machine; running requests are finished first."""
    from services.node import control

    stopped = control.stop()
    output.emit({"stopped": stopped}, as_json, lambda: output.out.print("Stopped." if stopped else "No server ran."))


def status(as_json: output.Json = False) -> None:
    """Show the health of the services, the models with their atlases, and the policies.

    The exit code is 1 unless all four services answer.
    """
    with client(attempts=1) as connected:
        value = _status(connected)
    output.emit(value, as_json, lambda: _show_status(value))
    if not value["ready"]:
        raise typer.Exit(1)


def _configure(**values: int | str | None) -> None:
    """Hand options to the server process through its environment, and to this process's settings."""
    for name, value in values.items():
        if value not in (None, ""):
            os.environ[name] = str(value)
    settings.cache_clear()


def _start() -> ServerInfo:
    from services.node import control

    if not output.err.is_terminal:
        return control.start(output.note)
    with output.err.status("Starting the services") as spinner:
        return control.start(lambda stage: spinner.update(stage[:1].upper() + stage[1:]))


def _wait(info: ServerInfo) -> None:
    from miclip.local_server import LOG_FILE
    from services.node import control

    control.wait(info)
    raise NotReady(f"The server has ended by itself. Its log: {settings().state_dir / LOG_FILE}")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _server_value(info: ServerInfo) -> dict[str, Any]:
    from miclip.local_server import KEY_FILE, LOG_FILE

    state_dir = settings().state_dir
    return {"grpc": info.grpc, "http": info.http, "metrics": info.metrics, "pid": info.pid, "ingress": info.ingress,
            "api_key_file": str(state_dir / KEY_FILE), "log": str(state_dir / LOG_FILE)}  # fmt: skip


def _show_server(value: dict[str, Any], detach: bool, was_running: bool) -> None:
    say = output.out.print
    say(f"[bold green]Ready.[/] All four services answer{' (they ran already)' if was_running else ''}.\n")
    say(f"  gRPC     {value['grpc']}", soft_wrap=True)
    say(f"  health   http://{value['http']}/-/healthz", soft_wrap=True)
    say(f"  metrics  http://{value['metrics']}/metrics", soft_wrap=True)
    say(f"  API key  {output.text(value['api_key_file'])}  (the command line finds it)", soft_wrap=True)
    say(f"  log      {output.text(value['log'])}", soft_wrap=True)
    image = short(example_image())
    say("\nTry:")
    for command in ("describe", 'localize "dog"', f'predict {image} --steer "dog=2.0"'):
        say(f"  [bold]miclip {output.text(command)}[/]", soft_wrap=True)
    say(f"\n{'End it with `miclip stop`.' if detach else 'Ctrl-C ends it.'}")


def _status(connected: MiclipClient) -> dict[str, Any]:
    services = connected.health()
    ready = all(answer == "SERVING" for answer in services.values())
    value: dict[str, Any] = {"ready": ready, "endpoint": connected.options.endpoint, "services": services,
                             "version": miclip.__version__, "models": [], "policies": None, "stops": None}  # fmt: skip
    if ready:
        value["models"] = [_model_value(model) for model in connected.list_models()]
        with suppress(NotReady):  # while Redis cannot be reached the services go on with what they knew
            value["policies"] = policies.as_json(connected.list_policies())
            value["stops"] = policies.as_json(connected.list_stops())
    elif not any(answer == "SERVING" for answer in services.values()):
        raise Unreachable(f"The server at {connected.options.endpoint} does not answer.")
    return value


def _model_value(model: Model) -> dict[str, Any]:
    """Return a model as plain values; ``atlas`` is empty where it is not aligned."""
    from miclip.v1.resources_pb2 import LayerKind
    from miclip.wire.common import read_kind

    layers = [
        {
            "layer": parse_layer(layer.name).layer,
            "kind": read_kind(LayerKind, layer.kind),
            "units": layer.units,
            "aligned": layer.aligned,
        }
        for layer in model.layers
    ]
    return {"model": model.name.removeprefix("models/"), "layers": layers, "atlas": model.atlas}


def _show_status(value: dict[str, Any]) -> None:
    say = output.out.print
    say(f"miclip {value['version']} at {output.text(value['endpoint'])}\n")
    services = output.table("service", "health")
    for name, answer in value["services"].items():
        serving = answer == "SERVING"
        services.add_row(name, "[green]serving[/]" if serving else f"[red]{output.text(answer)}[/]")
    output.show("Services", services)
    if not value["ready"]:
        return
    models = output.table("model", "layers", "atlas")
    for model in value["models"]:
        layers = ", ".join(f"{layer['layer']} ({layer['units']})" for layer in model["layers"])
        atlas = model["atlas"].removeprefix("atlases/")[:12]
        models.add_row(output.text(model["model"]), output.text(layers), atlas or "[dim]not aligned[/]")
    output.show("\nModels", models)
    if value["stops"] is None:
        say("\n[yellow]Policies: unknown, for the state store (Redis) cannot be reached.[/]")
        return
    say(f"\nPolicies: {', '.join(output.text(p['policy_id']) for p in value['policies']) or 'none'}")
    for stop_ in value["stops"]:
        where = stop_["model"] or "all models"
        say(f"[yellow]Steering of {output.text(where)} is stopped:[/] {output.text(stop_['reason'])}")
