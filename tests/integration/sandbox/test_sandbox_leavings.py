"""What runs leave on the sandbox's GitHub, and what can be done to them."""

import io
import re
import time
import zipfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from reports.archive import members  # noqa: F401 -- replaced below
from tests.integration.sandbox.conftest import Running, as_app
