"""What is recorded beside a CDEvent."""

import json
from datetime import UTC, datetime
from typing import Any

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.catalogue import fact_of
from buildlight_contracts.cdevents import in_cloudevent
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.testing import example_envelope
from services.ingest.admission import admit, beside
from services.ingest.log import Entry
from tests.unit.contracts.test_contract_cdevents import RUN, cdevent

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def admitted(event: Any) -> Entry:
    entry = admit(json.dumps(event).encode(), now=NOW)
    assert isinstance(entry, Entry)
    return entry


def test_the_fact_beside_is_one_that_admission_would_take() -> None:
    """Its id, subject and data are those of the fact; the CDEvent caused it, and both tell one story."""
    original = admitted(in_cloudevent(cdevent("pipelinerun.finished", RUN | {"outcome": "success"})))
    fact = beside(original)
    assert fact is not None
    envelope = Envelope(
        id=str(fact.id), source=fact.source, type=fact.type, subject=fact.subject, data=json.loads(fact.data)
    )
    again = admit(envelope.to_json(), now=NOW)
    assert isinstance(again, Entry)
    assert (again.id, again.subject, again.digest) == (fact.id, fact.subject, fact.digest)
    assert isinstance(fact_of(envelope), BuildObservedV1)
    assert fact.causation_id == str(original.id)
    assert fact.correlation_id == original.correlation_id
    assert fact.source == "buildlight://ingest/cdevents"


def test_what_postgres_cannot_hold_is_visible_in_both() -> None:
    """A NUL in a name stands there as text."""
    original = admitted(in_cloudevent(cdevent("pipelinerun.started", {"pipelineName": "a\0b"})))
    fact = beside(original)
    assert fact is not None
    assert "\\u0000" not in original.data.replace("\\\\u0000", "")
    assert json.loads(fact.data)["workflow"] == "a\\u0000b"


def test_nothing_stands_beside_other_events() -> None:
    """Neither our own, nor foreign ones, nor CDEvents of which no fact is made, however odd."""
    ours = admit(example_envelope(BuildObservedV1).to_json(), now=NOW)
    assert isinstance(ours, Entry)
    assert beside(ours) is None
    envelope = {"specversion": "1.0", "id": "7", "source": "https://acme.example"}
    for type_, data in (
        ("com.acme.x", cdevent("pipelinerun.started", RUN)),
        ("dev.cdevents.artifact.signed.0.2.0", cdevent("artifact.signed", {})),
        ("dev.cdevents.pipelinerun.started.0.2.0", None),
        ("dev.cdevents.pipelinerun.started.0.2.0", "text"),
        ("dev.cdevents.pipelinerun.started.0.2.0", [1]),
    ):
        assert beside(admitted(envelope | {"type": type_, "data": data})) is None
