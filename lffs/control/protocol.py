"""What is said over the control socket; lffs.control.server answers, lffs.control.client asks.

Lines of JSON in ASCII.  A request is ``{"call": NAME, "arguments": {…}}``; the answer is
``{"result": …}`` or ``{"error": {"type", "message", "errno"}}``, and lines ``{"progress": {…}}`` may
come before it.  A connection takes one request after the other.  No socket is touched here.
"""

import errno
import os
from typing import Any

from lffs import errors
from lffs.control.api import CALLS, Call, JsonObject
from lffs.errors import LffsError

SOCKET_NAME = "control.sock"
MAX_REQUEST_BYTES = 1 << 20


class RequestError(LffsError, ValueError):
    """A request that is none: no JSON, no such call, not its arguments."""

    errno = errno.EINVAL


# What may cross the socket by name.  A type that is no key here arrives as plain OSError.
_ERROR_TYPES: dict[str, type[LffsError]] = {
    name: value
    for name, value in (*vars(errors).items(), (RequestError.__name__, RequestError))
    if isinstance(value, type) and issubclass(value, LffsError)
}


def check_request(request: Any) -> tuple[Call, JsonObject]:
    """Return the call and the arguments that *request*, any JSON value, names.

    Raises RequestError unless each is exactly as CALLS has it.
    """
    if not isinstance(request, dict) or request.keys() != {"call", "arguments"}:
        raise RequestError('a request is {"call": NAME, "arguments": {…}}')
    name, arguments = request["call"], request["arguments"]
    call = CALLS.get(name) if isinstance(name, str) else None
    if call is None:
        raise RequestError(f"no such call: {name!a:.100}; there are {', '.join(CALLS)}")
    if not isinstance(arguments, dict) or arguments.keys() != call.parameters.keys():
        raise RequestError(f"{name} takes these arguments: {', '.join(call.parameters) or 'none'}")
    for parameter, types in call.parameters.items():
        if not isinstance(arguments[parameter], types):
            expected = " or ".join("null" if type_ is type(None) else type_.__name__ for type_ in types)
            raise RequestError(f"{name}: {parameter} is to be {expected}")
    return call, arguments


def encode_error(exc: LffsError | OSError) -> JsonObject:
    """Return *exc* as the value of "error"."""
    if isinstance(exc, LffsError):
        named = (type_.__name__ for type_ in type(exc).__mro__ if type_.__name__ in _ERROR_TYPES)
        return {"type": next(named), "message": str(exc), "errno": exc.errno}
    number = exc.errno or errno.EIO
    message = exc.strerror or str(exc) or os.strerror(number)
    if exc.filename is not None:
        name = os.fsdecode(exc.filename) if isinstance(exc.filename, bytes) else str(exc.filename)
        message = f"{name}: {message}"
    return {"type": "OSError", "message": message, "errno": number}


def decode_error(error: JsonObject) -> LffsError | OSError:
    """Return the exception that encode_error was given, as near as can be."""
    message, number = str(error["message"]), int(error["errno"])
    error_type = _ERROR_TYPES.get(error["type"])
    if error_type is None:
        return OSError(number, message)
    decoded = error_type(message)
    decoded.errno = number
    return decoded
