"""What the poller counts."""

from prometheus_client import Counter, Gauge

POLLS = Counter(
    "buildlight_poller_polls_total",
    "Polls by what came of them: complete, partial, waiting, a reason to fail, or why they were dropped.",
    ["provider", "outcome"],
)
REQUESTS = Counter(
    "buildlight_poller_requests_total",
    "Calls to a provider by HTTP status, or `unreachable`.",
    ["provider", "status"],
)
FACTS = Counter("buildlight_poller_facts_total", "Facts published.", ["type"])
REFUSED = Counter(
    "buildlight_poller_refused_total", "Rows of a provider that could not be read.", ["provider"]
)
BUDGET_LIMIT = Gauge("buildlight_poller_budget_limit", "Calls an hour that the provider allows.", ["account"])
BUDGET_REMAINING = Gauge("buildlight_poller_budget_remaining", "Calls left of them.", ["account"])
BUDGET_RESETS = Gauge(
    "buildlight_poller_budget_resets_timestamp_seconds", "When the allowance is renewed.", ["account"]
)
LAST_SUCCESS = Gauge(
    "buildlight_poller_last_success_timestamp_seconds",
    "When a target was last polled well, by this replica.",
    ["provider", "target"],
)
RECONCILES = Counter(
    "buildlight_poller_reconciles_total",
    "Comparisons of a provider with the log: complete, incomplete, waiting, a reason to fail, or why dropped.",
    ["provider", "outcome"],
)
GAPS = Gauge(
    "buildlight_poller_gaps",
    "Attempts that were `missing` from the log, or held `open` though ended, by this replica's last comparison.",
    ["provider", "target", "kind"],
)
