"""What the poller counts."""

from prometheus_client import Counter, Gauge, Histogram

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
COLLECTIONS = Counter(
    "buildlight_poller_collections_total",
    "Ended attempts whose reports were asked for.",
    ["provider", "priority"],
)
REFRESHES = Counter(
    "buildlight_poller_refreshes_total",
    "Looks at one run that were asked for, by what came of them: looked, fresh_already, gone, a reason to fail, "
    "or why they were dropped.",
    ["provider", "lane", "outcome"],
)
SLICES = Counter(
    "buildlight_poller_backfill_slices_total",
    "Slices of backfills by what came of them.",
    ["provider", "outcome"],
)
DISCOVERIES = Counter(
    "buildlight_poller_discoveries_total",
    "Patterns looked up by what came of them: complete, waiting, or a reason to fail.",
    ["provider", "outcome"],
)
TURN_SECONDS = Histogram(
    "buildlight_poller_turn_wait_seconds", "How long a call waited for its turn.", ["account", "lane"]
)
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
ACTIONS = Counter(
    "buildlight_poller_actions_total",
    "What providers were asked to do with builds, by what came of it: done, refused or failed.",
    ["provider", "action", "outcome"],
)
COLLECTED = Counter(
    "buildlight_poller_collected_total",
    "What was collected of ended builds: report, refused (cannot be read), log, log_gone.",
    ["provider", "what"],
)
FULL_LOGS = Counter(
    "buildlight_poller_full_logs_total",
    "Logs asked for over HTTP: streamed, broken (ended early), slow (reader), refused, busy, too_many.",
    ["provider", "outcome"],
)
RECONCILES = Counter(
    "buildlight_poller_reconciles_total",
    "Comparisons of a provider with the log: complete, incomplete, waiting, a reason to fail, or why dropped.",
    ["provider", "outcome"],
)
GAPS = Gauge(
    "buildlight_poller_gaps",
    "Attempts that were `missing` from the log, or held `open` though ended, by the last comparison; "
    "told by one replica, the leader.",
    ["provider", "target", "kind"],
)
