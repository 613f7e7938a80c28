"""Every error the project raises on purpose. The message says what to do; the HTTP status is named once, here."""

from __future__ import annotations


class SecondNatureError(Exception):
    """A fault with a sentence for the person who can mend it."""

    status = 500  # HTTP status
    code = "internal_error"  # OpenAI's `error.code`
    kind = "server_error"  # OpenAI's `error.type`

    def __init__(self, message: str, *, retry_after_s: float | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s  # seconds; sent as Retry-After
        self.param = param  # the offending field of a request


class BadInput(SecondNatureError):
    """The caller's request or file is wrong."""

    status, code, kind = 400, "invalid_request", "invalid_request_error"


class BadConfig(BadInput):
    """`service.yaml`, an option or a folder is wrong; the service does not start."""

    code = "invalid_config"


class Denied(SecondNatureError):
    """No key, a revoked key, or a key without the role."""

    status, code, kind = 401, "invalid_api_key", "authentication_error"


class Forbidden(SecondNatureError):
    """The key is known but its role does not allow this."""

    status, code, kind = 403, "insufficient_role", "permission_error"


class NotFound(SecondNatureError):
    """No such model, episode, adapter, skill or key."""

    status, code, kind = 404, "not_found", "invalid_request_error"


class Conflict(SecondNatureError):
    """Something else is under way: a night, a second daemon, a port in use."""

    status, code, kind = 409, "conflict", "conflict_error"


class TooLarge(SecondNatureError):
    """A body, a prompt or an answer is over its limit."""

    status, code, kind = 413, "too_large", "invalid_request_error"


class TooMany(SecondNatureError):
    """A rate limit, a token budget or a queue is full."""

    status, code, kind = 429, "rate_limit_exceeded", "rate_limit_error"


class CallerGone(SecondNatureError):
    """The caller hung up; the work for it was stopped. Nobody reads the answer: it is for the log and the metrics."""

    status, code = 499, "caller_gone"


class Unavailable(SecondNatureError):
    """The engine is starting, restarting or gone."""

    status, code, kind = 503, "engine_unavailable", "server_error"


class TimedOut(SecondNatureError):
    """The engine did not answer within the request's time."""

    status, code, kind = 504, "engine_timeout", "server_error"


class Damaged(SecondNatureError):
    """A file on disk is not what its digest, manifest or schema says."""

    code = "damaged"


class StorageFull(SecondNatureError):
    """The state folder cannot be written: disk full or read-only."""

    status, code = 507, "storage_full"
