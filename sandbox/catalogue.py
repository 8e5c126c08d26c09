"""What the pretend company consists of: its repositories, people, pipelines and commit messages."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who pushes; `kind` is GitHub's user type."""

    login: str
    name: str
    number: int
    kind: str = "User"

    @property
    def email(self) -> str:
        return f"{self.login.removesuffix('[bot]')}@acme.example"


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job of a pipeline: what it needs, how many seconds it usually takes, its own steps.

    The last of `steps` is the long one, and the one that fails.
    """

    name: str
    seconds: float
    steps: tuple[str, ...]
    needs: tuple[str, ...] = ()
    approval: bool = False
    label: str = "ubuntu-24.04"


@dataclass(frozen=True, slots=True)
class Workflow:
    """A pipeline's definition, as a file under .github/workflows."""

    name: str
    file: str
    number: int
    jobs: tuple[JobPlan, ...]

    @property
    def path(self) -> str:
        return f".github/workflows/{self.file}"


@dataclass(frozen=True, slots=True)
class Repository:
    """`push_seconds` is the mean time between pushes; `fragility` how likely one to main breaks it."""

    full_name: str
    number: int
    language: str
    description: str
    push_seconds: float
    fragility: float
    workflows: tuple[Workflow, ...]

    @property
    def name(self) -> str:
        return self.full_name.split("/", 1)[1]

    @property
    def owner(self) -> Person:
        login = self.full_name.split("/", 1)[0]
        return Person(login, login, 9000 + sum(login.encode()), "Organization")

    def workflow(self, name: str) -> Workflow | None:
        return next((workflow for workflow in self.workflows if workflow.name == name), None)


PEOPLE = (
    Person("maya-lindqvist", "Maya Lindqvist", 4101),
    Person("tomasz-kowal", "Tomasz Kowal", 4102),
    Person("aiko-tanabe", "Aiko Tanabe", 4103),
    Person("sam-okafor", "Sam Okafor", 4104),
    Person("lucia-ferreira", "Lucía Ferreira", 4105),
    Person("jonas-weber", "Jonas Weber", 4106),
    Person("priya-raman", "Priya Raman", 4107),
)
BOT = Person("dependabot[bot]", "dependabot[bot]", 4900, "Bot")

SUBJECTS = (
    "Round totals half-even before tax",
    "Retry the stock reservation once on conflict",
    "Show the delivery window on the order page",
    "Drop the unused legacy price table",
    "Validate IBAN check digits on entry",
    "Cache the category tree for a minute",
    "Log the correlation id with every refund",
    "Move image resizing out of the request",
    "Make the search filter keyboard reachable",
    "Use UTC in all scheduled exports",
    "Split the basket service from checkout",
    "Return 409 when a voucher is already used",
    "Stream the CSV export instead of building it",
    "Add an index for open invoices by customer",
    "Translate the returns form",
    "Close the database session on early return",
)
BUMPS = (
    "Bump httpx from 0.27.2 to 0.28.1",
    "Bump vite from 6.0.1 to 6.0.7",
    "Bump postgres from 17.2 to 17.4",
)

_CHECKOUT = "Run actions/checkout@v4"
_PYTHON = (_CHECKOUT, "Run actions/setup-python@v5", "Install dependencies")
_NODE = (_CHECKOUT, "Run actions/setup-node@v4", "Run npm ci")
_SETUPS = {
    "Python": _PYTHON,
    "TypeScript": _NODE,
    "Go": (_CHECKOUT, "Run actions/setup-go@v5", "Run go mod download"),
    "Java": (_CHECKOUT, "Run actions/setup-java@v4", "Run mvn -B dependency:resolve"),
    "C++": (_CHECKOUT, "Install compilers", "Run cmake --preset ci"),
}


def _ci(setup: tuple[str, ...], number: int) -> Workflow:
    return Workflow(
        "ci",
        "ci.yml",
        number,
        (
            JobPlan("lint", 55, (*setup, "Lint")),
            JobPlan("unit (1)", 170, (*setup, "Run unit tests")),
            JobPlan("unit (2)", 150, (*setup, "Run unit tests")),
            JobPlan("integration", 240, (*setup, "Start services", "Run integration tests"), ("lint",)),
            JobPlan("package", 80, (_CHECKOUT, "Build image"), ("unit (1)", "unit (2)")),
        ),
    )


def _deploy(number: int) -> Workflow:
    return Workflow(
        "deploy",
        "deploy.yml",
        number,
        (
            JobPlan("staging", 90, (_CHECKOUT, "Deploy to staging")),
            JobPlan("smoke", 45, (_CHECKOUT, "Run smoke tests"), ("staging",)),
            JobPlan("production", 110, (_CHECKOUT, "Deploy to production"), ("smoke",), approval=True),
        ),
    )


def _nightly(setup: tuple[str, ...], number: int) -> Workflow:
    return Workflow(
        "nightly",
        "nightly.yml",
        number,
        (
            JobPlan("end-to-end (chromium)", 420, (*setup, "Run end-to-end tests")),
            JobPlan("end-to-end (firefox)", 460, (*setup, "Run end-to-end tests")),
            JobPlan("audit", 60, (*setup, "Audit dependencies")),
        ),
    )


def _pages(number: int) -> Workflow:
    return Workflow(
        "ci",
        "ci.yml",
        number,
        (
            JobPlan("build", 70, (*_NODE, "Build the site")),
            JobPlan("links", 40, (_CHECKOUT, "Check links"), ("build",)),
        ),
    )


class Sketch(NamedTuple):
    """What makes one repository differ from the next."""

    name: str
    language: str
    description: str
    push_seconds: float
    fragility: float


NAMED = (
    Sketch("shop", "TypeScript", "The web shop", 420.0, 0.07),
    Sketch("payments", "Python", "Charges, refunds and invoices", 600.0, 0.05),
    Sketch("docs", "TypeScript", "Handbook and API guides", 1800.0, 0.04),
    Sketch("inventory", "Go", "What is in which warehouse", 900.0, 0.06),
    Sketch("search", "Java", "Product search", 1100.0, 0.08),
    Sketch("mobile", "C++", "The app", 1300.0, 0.10),
)


BUILT_BY_JENKINS = (
    Sketch("ledger", "Python", "Books and bank statements", 1500.0, 0.07),
    Sketch("firmware", "Python", "What runs on the scanners", 2400.0, 0.09),
)


def built_by_jenkins(count: int) -> tuple[Repository, ...]:
    """The first `count` of the older repositories, which Jenkins builds."""
    return tuple(_repository(index, sketch) for index, sketch in enumerate(BUILT_BY_JENKINS[:count], 900))


def repositories(count: int) -> tuple[Repository, ...]:
    """The first `count` repositories of the company; past the named ones they are acme/service-NN."""
    more = (
        Sketch(f"service-{number:02d}", "Python", "One of many services", 1500.0, 0.05)
        for number in range(len(NAMED) + 1, count + 1)
    )
    return tuple(_repository(index, sketch) for index, sketch in enumerate((*NAMED[:count], *more)))


def _repository(index: int, sketch: Sketch) -> Repository:
    setup = _SETUPS[sketch.language]
    number = 880_000 + index * 10
    workflows: tuple[Workflow, ...] = (_ci(setup, number), _deploy(number + 1), _nightly(setup, number + 2))
    if sketch.name == "docs":
        workflows = (_pages(number),)
    return Repository(
        full_name=f"acme/{sketch.name}",
        number=710_000 + index,
        language=sketch.language,
        description=sketch.description,
        push_seconds=sketch.push_seconds,
        fragility=sketch.fragility,
        workflows=workflows,
    )


def stranger(full_name: str) -> Repository:
    """A repository that only a script names; its pipelines are those of any service."""
    number = 500_000 + sum(byte * (place + 1) for place, byte in enumerate(full_name.encode()))
    workflows = (_ci(_PYTHON, number * 10), _deploy(number * 10 + 1), _nightly(_PYTHON, number * 10 + 2))
    return Repository(full_name, number, "Python", "Scripted", 1e9, 0.0, workflows)
