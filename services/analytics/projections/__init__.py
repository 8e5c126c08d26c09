"""The projections, in the order their tables are made."""

from services.analytics.projection import Projection
from services.analytics.projections.builds import Builds
from services.analytics.projections.jobs import Jobs

PROJECTIONS: tuple[Projection, ...] = (Builds(), Jobs())
