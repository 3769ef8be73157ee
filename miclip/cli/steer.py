"""``miclip steer``: policies of a running server, and its kill switch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from miclip.cli import output, policies
from miclip.cli.connect import client
from miclip.cli.evidence import warn
from miclip.cli.localize import search_layers
from miclip.cli.options import DEFAULT_MODEL, Layers, Method, Model, Reconstruct
from miclip.cli.photos import read_image
from miclip.cli.specs import STEER_FORMS, ConceptSteer, PolicySteer, Steer
from miclip.cli.steering import UnitCount, parse_steers, resolve
from miclip.cli.watch import watch
from miclip.errors import InvalidInput
from miclip.steering.policy import Conditions, make_policy

if TYPE_CHECKING:
    from miclip.client import MiclipClient
    from miclip.steering.policy import Policy

app = typer.Typer(
    cls=output.Commands, no_args_is_help=True, help="Policies of the running server, and the kill switch."
)

PolicyId = Annotated[str, typer.Argument(help="Id of the policy: letters, digits, '_', '.' and '-'.")]
What = Annotated[list[str], typer.Argument(metavar="STEER...", help=f"{STEER_FORMS}.")]
Ttl = Annotated[int, typer.Option(min=0, help="Time to live in seconds; 0 is for ever.")]
Share = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the requests that are steered, above 0 to 1.")]
NormLimit = Annotated[float, typer.Option(min=0.0, help="Largest relative change of a layer; 0 is no limit.")]
Text = Annotated[str, typer.Option("--description", help="Free text for people.")]
NewWhat = Annotated[list[str] | None, typer.Argument(metavar="[STEER...]", help=f"{STEER_FORMS}; default as it is.")]
NewTtl = Annotated[int | None, typer.Option("--ttl", min=0, help="Time to live in seconds from now; 0 is for ever.")]
NewShare = Annotated[float | None, typer.Option("--traffic-share", min=0.0, max=1.0, help="Share of the requests.")]
NewNormLimit = Annotated[
    float | None, typer.Option("--norm-limit", min=0.0, help="Largest relative change; 0 is none.")
]
NewText = Annotated[str | None, typer.Option("--description", help="Free text for people.")]
Etag = Annotated[str, typer.Option(help="Only if the policy is still at this etag.")]
Reason = Annotated[str, typer.Argument(help="Why; kept in the audit stream.")]
OneModel = Annotated[str, typer.Option("--model", "-m", help="Only this model; default all.")]
Images = Annotated[list[Path] | None, typer.Option("--image", help="Image to measure on; repeat it.")]
Target = Annotated[
    str, typer.Option("--target", help="Label that counts as target; default those that the concept covers.")
]


@app.command()
def create(  # the options of the command
    policy_id: PolicyId,
    steer: What,
    model: Model = DEFAULT_MODEL,
    layers: Layers = None,
    units_per_concept: UnitCount = 5,
    method: Method = "attribution",
    reconstruct: Reconstruct = False,
    ttl: Ttl = 0,
    traffic_share: Share = 1.0,
    norm_limit: NormLimit = 0.0,
    description: Text = "",
    as_json: output.Json = False,
) -> None:
    """Make a policy; requests that name it are steered from the next batch on.

    Examples:
        miclip steer create more-dogs "dog=2.0" --ttl 3600 --traffic-share 0.1

        miclip steer create by-hand "layer4/12*2" "layer4/7=0"

        miclip steer create by-features "dog=2.0" --layer layer4@topk-512
    """
    wanted = parse_steers(steer, model)
    with client() as connected:
        steering = _steering(connected, wanted, model, layers or [], units_per_concept, method, reconstruct)
        policy = make_policy(
            **steering,
            ttl_seconds=ttl,
            traffic_share=traffic_share,
            norm_limit=norm_limit,
            description=description,
        )
        made = connected.create_policy(policy_id, policy)
    _show_written(made, as_json)


@app.command()
def update(  # the options of the command
    policy_id: PolicyId,
    steer: NewWhat = None,
    layers: Layers = None,
    units_per_concept: UnitCount = 5,
    method: Method = "attribution",
    reconstruct: Reconstruct = False,
    ttl: NewTtl = None,
    traffic_share: NewShare = None,
    norm_limit: NewNormLimit = None,
    description: NewText = None,
    etag: Etag = "",
    as_json: output.Json = False,
) -> None:
    """Change a policy without a gap; what is not given stays. The server resolves a concept to units anew.

    Examples:
        miclip steer update more-dogs --traffic-share 0.5

        miclip steer update more-dogs "dog=3.0" --ttl 600
    """
    given = {
        "ttl_seconds": ttl, "traffic_share": traffic_share, "norm_limit": norm_limit, "description": description,
    }  # fmt: skip
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not (changes or steer):
        text = "Nothing to change. Give STEER, --ttl, --traffic-share, --norm-limit or --description."
        raise InvalidInput(text, field="STEER")
    with client() as connected:
        policy = connected.get_policy(policy_id)
        steering: dict[str, Any] = {}
        if steer:
            wanted = parse_steers(steer, policy.model)
            steering = _steering(connected, wanted, policy.model, layers or [], units_per_concept, method, reconstruct)
        updated = connected.update_policy(_revised(policy, steering, changes, etag))
    _show_written(updated, as_json)


@app.command()
def preview(  # the options of the command
    steer: What,
    model: Model = DEFAULT_MODEL,
    layers: Layers = None,
    units_per_concept: UnitCount = 5,
    method: Method = "attribution",
    reconstruct: Reconstruct = False,
    images: Images = None,
    target: Target = "",
    as_json: output.Json = False,
) -> None:
    """Measure what a policy does before it goes live: the target, the other labels, and random units as control.

    Examples:
        miclip steer preview "dog=2.0"

        miclip steer preview policies/more-dogs --target dog
    """
    wanted = parse_steers(steer, model)
    data = [read_image(path) for path in images or []]
    with client() as connected:
        subject: str | Policy = (
            f"policies/{wanted[0].policy_id}"
            if len(wanted) == 1 and isinstance(wanted[0], PolicySteer)
            else make_policy(
                **_steering(connected, wanted, model, layers or [], units_per_concept, method, reconstruct)
            )
        )
        try:
            preview_ = connected.preview_policy(subject, images=data, target_label=target)
        except InvalidInput as error:  # the request's field is an option here
            text = error.message.replace("target_label", "--target")
            raise InvalidInput(text, field=error.field, allowed=error.allowed) from error
    value, receipt = policies.preview_json(preview_), preview_.receipt
    concept = wanted[0].concept if isinstance(wanted[0], ConceptSteer) else receipt.target_label
    warn(concept, preview_.evidence)
    output.emit(value, as_json, lambda: policies.show_receipt(receipt))


@app.command("list")
def list_(model: OneModel = "", as_json: output.Json = False, as_csv: output.Csv = False) -> None:
    """List the policies."""
    with client() as connected:
        found = connected.list_policies(model)
    sheet = output.sheet_of(policies.SHEET, found) if as_csv else None
    output.emit(policies.as_json(found), as_json, lambda: policies.show_policies(found), sheet)


@app.command()
def get(policy_id: PolicyId, as_json: output.Json = False) -> None:
    """Show one policy."""
    with client() as connected:
        policy = connected.get_policy(policy_id)
    output.emit(policies.as_json([policy])[0], as_json, lambda: policies.show_policies([policy]))


@app.command()
def delete(policy_id: PolicyId, etag: Etag = "", as_json: output.Json = False) -> None:
    """Delete a policy."""
    with client() as connected:
        connected.delete_policy(policy_id, etag=etag)
    value = {"deleted": policy_id}
    output.emit(value, as_json, lambda: output.out.print(f"Deleted {output.text(policy_id)}."))


@app.command()
def stop(reason: Reason, model: OneModel = "", as_json: output.Json = False) -> None:
    """The kill switch: no request is steered, of one model or of all, until `miclip steer resume`."""
    with client() as connected:
        stops = connected.stop_steering(reason, model=model)
    output.emit(policies.as_json(stops), as_json, lambda: policies.show_stops(stops))


@app.command()
def resume(reason: Reason, model: OneModel = "", as_json: output.Json = False) -> None:
    """Let requests be steered again."""
    with client() as connected:
        stops = connected.resume_steering(reason, model=model)
    output.emit(policies.as_json(stops), as_json, lambda: policies.show_stops(stops))


app.command()(watch)


def _revised(policy: Policy, steering: dict[str, Any], conditions: dict[str, Any], etag: str) -> Policy:
    """Return a policy with what it does, and conditions, changed where they are given."""
    before = {name: getattr(policy, name) for name in Conditions.model_fields}
    changes: dict[str, Any] = dict(Conditions.checked({**before, **conditions}, "policy"))
    if steering:
        fresh = make_policy(**steering)
        changes |= {name: getattr(fresh, name) for name in ("concept", "requested", "edits")}
    return policy.replaced(**changes, etag=etag or policy.etag)


def _show_written(policy: Policy, as_json: bool) -> None:
    if policy.concept:
        warn(policy.concept.text, policy.concept.evidence)
    output.emit(policies.as_json([policy])[0], as_json, lambda: policies.show_policies([policy]))


def _steering(
    connected: MiclipClient,
    wanted: Sequence[Steer],
    model: str,
    layers: list[str],
    top_k: int,
    method: str,
    reconstruct: bool,
) -> dict[str, Any]:
    """Return what ``make_policy`` is told: one concept stays a concept, which the server resolves; else edits."""
    if any(isinstance(one, PolicySteer) for one in wanted):
        raise InvalidInput("STEER: name concepts or units here, not a policy.", field="STEER")
    if len(wanted) == 1 and isinstance(wanted[0], ConceptSteer):
        where = search_layers(connected, model, layers)
        concept = wanted[0]
        return {
            "model": model,
            "concept": concept.concept,
            "scale": concept.factor,
            "top_k": top_k,
            "layers": where,
            "method": method,
            "reconstruct": reconstruct,
        }
    edits = resolve(connected, model, wanted, layers, top_k, method, reconstruct)["edits"]
    return {"model": model, "edits": edits}
