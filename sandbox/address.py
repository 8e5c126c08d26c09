"""The server's own address, as whoever asks knows it: answers carry links that lead back here."""

from starlette.requests import Request


def base_of(request: Request) -> str:
    """Scheme, host and the provider's prefix, as in http://127.0.0.1:4711/github."""
    return f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
