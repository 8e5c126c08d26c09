"""What readers raise. Each message says what is wrong, for a person."""


class UnreadableError(Exception):
    """This should be a report or an archive, and cannot be read, or not safely."""


class NoReportError(UnreadableError):
    """This is something else than a test report."""

    def __init__(self, message: str, *, meant_as_report: bool | None) -> None:
        super().__init__(message)
        self.meant_as_report = meant_as_report
        """False for other XML, such as a `pom.xml`; None when only the file's name can tell."""
