"""The provisioner's settings."""

import pytest

from chassis.settings import BadSettings
from services.provisioner.service import build
from services.provisioner.settings import ProvisionerSettings


async def test_the_settings_take_the_older_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes and durations as older systems write them."""
    for name, value in {
        "BUILDLIGHT_DATABASE_URL": "postgresql://x",
        "BUILDLIGHT_AMQP_URL": "amqp://x",
        "RABBITMQ_QUEUE": "jobs",
        "RABBITMQ_PREFETCH_COUNT": "1",
        "WORKER_CONCURRENCY": "7",
        "WORKER_ID": "worker-001",
        "MAX_TEMPLATE_SIZE": "10MB",
        "MAX_WORKSPACE_SIZE": "500MB",
        "MAX_JOB_DURATION": "10m",
        "TEMPLATE_CACHE_DIR": "/anywhere",
    }.items():
        monkeypatch.setenv(name, value)
    settings = ProvisionerSettings.load()
    assert (settings.jobs_queue, settings.jobs_prefetch, settings.concurrency) == ("jobs", 1, 7)
    assert (settings.max_template_bytes, settings.max_workspace_bytes) == (10_485_760, 524_288_000)
    assert (settings.max_job_seconds, settings.worker_id) == (600.0, "worker-001")
    assert build(settings).name == "provisioner"


def test_a_wrong_size_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable and what it should look like."""
    monkeypatch.setenv("MAX_WORKSPACE_SIZE", "much")
    with pytest.raises(BadSettings, match="MAX_WORKSPACE_SIZE: .*'much' is not a size such as 500KB"):
        ProvisionerSettings.load(database_url="postgresql://x", amqp_url="amqp://x")
