"""What Jenkins' answers mean when they are not what was asked for, and what a person can do about it. Pure."""

from collections.abc import Mapping

from services.poller.provider import PollFailedError, Reason

_SETTINGS = "JENKINS_URL, JENKINS_USERNAME and JENKINS_API_TOKEN"


def is_page(headers: Mapping[str, str]) -> bool:
    """Whether the answer is a page for people. Jenkins' data never is."""
    return headers.get("content-type", "").lower().startswith("text/html")


def failure_of(status: int, headers: Mapping[str, str], what: str, *, secret: str | None) -> PollFailedError:
    """Why Jenkins did not answer as it should.

    Args:
        status: of the answer.
        headers: of the answer, with lower-case names.
        what: was asked for, as in "the job acme/shop".
        secret: is never repeated.
    """
    reason, text = _meaning(status, headers, what)
    said = headers.get("x-error", "")[:300]
    if said:
        text += f' Jenkins says: "{said.replace(secret, "[redacted]") if secret else said}"'
    return PollFailedError(reason, text, status=status)


def _meaning(status: int, headers: Mapping[str, str], what: str) -> tuple[Reason, str]:
    anonymous = headers.get("x-you-are-authenticated-as", "") == "anonymous"
    if status == 200 and is_page(headers):
        return "unauthorized", (
            "A page for people came instead of data, most likely one to log in. "
            f"Check {_SETTINGS}, and that whatever stands before Jenkins lets API tokens through."
        )
    if status == 429:
        return "rate_limited", "Something before Jenkins wants fewer calls. Polling goes on when it allows."
    if status == 401:
        return "unauthorized", (
            "Jenkins refuses the user or the token. Make an API token for the user (Security, API Token) "
            "and set JENKINS_USERNAME and JENKINS_API_TOKEN."
        )
    if status == 403 and anonymous:
        return "unauthorized", (
            "Jenkins lets nobody read without an account. Set JENKINS_USERNAME and JENKINS_API_TOKEN; if they are "
            "set, JENKINS_URL may lead to a redirect that drops them: write the address it leads to."
        )
    if status == 403:
        return "forbidden", f"The user may not see {what}. Give it the permissions Overall/Read and Job/Read."
    if status in (404, 410):
        return "not_found", (
            f"There is no {what.removeprefix('the ')}, or the user may not see it. Check JENKINS_JOBS "
            "(full names, such as folder/project/branch) and the user's permission Job/Read."
        )
    if status in (502, 504):
        return (
            "server_error",
            f"What stands before Jenkins answered {status}: is Jenkins up? It is asked again.",
        )
    if status >= 500:
        return "server_error", f"Jenkins answered {status}; it may be starting. It is asked again."
    return "nonsense", f"The answer was {status}, which was not expected. Check JENKINS_URL."
