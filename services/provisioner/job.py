"""A provisioning job: what it may say, and when two are the same. Pure."""

import json
from datetime import datetime
from typing import Any

from buildlight_contracts.catalogue import BadMessage, command_of, parse, validate
from buildlight_contracts.commands import ProvisionV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.provisioning import ProvisioningRequestedV1


class CannotProvision(Exception):  # noqa: N818 -- an answer, not a bug
    """The run has its answer, and the answer is no: the text says why and what to do, for a person."""


def from_plain(body: bytes) -> ProvisionV1:
    """The job in a message of the queue `provisioning-jobs`.

    Raises:
        BadMessage: not JSON, or not a job; naming each field that does not fit, never its value.
    """
    try:
        data = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        # Not the decoder's own words of text it could not decode: they quote it.
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadMessage(f"not JSON{where}") from None
    if not isinstance(data, dict):
        raise BadMessage(f"a job is a JSON object, not {_kind_of(data)}")
    return validate(ProvisionV1, data)


def from_command(body: bytes, *, now: datetime) -> tuple[ProvisionV1, Envelope]:
    """The job in a command; raises as `from_plain` does, and when the command has expired."""
    envelope = parse(body)
    command = command_of(envelope)
    if not isinstance(command, ProvisionV1):
        raise BadMessage(f"{envelope.type} is not for the provisioner, which takes {ProvisionV1.type}")
    if envelope.expiresat is not None and envelope.expiresat < now:
        raise BadMessage(f"expired at {envelope.expiresat.isoformat()}; send it again with a later expiry")
    return command, envelope


def canonical(job: ProvisionV1) -> str:
    """`job` as JSON text in ASCII: the same for equal jobs, and all that is needed to carry it out."""
    return json.dumps(job.model_dump(), sort_keys=True, ensure_ascii=True, allow_nan=False)


def restored(text: str) -> ProvisionV1:
    """The job that `canonical` wrote."""
    return ProvisionV1.model_validate(json.loads(text))


def requested(job: ProvisionV1, at: datetime) -> ProvisioningRequestedV1:
    """The fact that `job` was accepted. Its values are left out: they may hold secrets."""
    return ProvisioningRequestedV1(
        run_id=job.run_id,
        kind=job.kind,
        template=job.blueprint.template,
        name=job.blueprint.name,
        namespace=job.blueprint.namespace,
        group_id=job.git_config.group_id,
        visibility=job.git_config.visibility,
        requested_at=at,
    )


def without_values(text: str, values: Any) -> str:
    """`text` with every word of `values` that it quotes struck out.

    Texts of other programs end in events and on screens; values may hold secrets.
    """
    # Shorter ones are parts of ordinary words, and no secrets.
    words = sorted({word for word in _leaves(values) if len(word) >= 4}, key=len, reverse=True)
    for word in words:
        text = text.replace(word, "[value]")
    return text


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in _leaves(one)]
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)]
    if isinstance(value, bool) or value is None:
        return []
    text = str(value)
    return [text, repr(text)[1:-1], json.dumps(text)[1:-1]]


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _kind_of(data: Any) -> str:
    return {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}.get(
        type(data), "a number"
    )
