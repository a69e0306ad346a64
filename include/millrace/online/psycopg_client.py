"""The connection to the online store in PostgreSQL, its tables, and what its errors mean.

Schema `millrace_online` holds a catalogue of views and one table of rows a view. A view that is replaced gets a new
table, which the catalogue points to in the same transaction; the name of a table therefore never means two things.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from millrace.errors import OnlineStoreUnavailableError, SettingsError
from millrace.online.address import show

if TYPE_CHECKING:
    from millrace.online.psycopg_connection import BoundedConnection

SCHEMA = "millrace_online"
CATALOGUE = f"{SCHEMA}.views"


def rows_table(number: int) -> str:
    """The table with the rows of a view, as the catalogue numbers it."""
    return f"{SCHEMA}.rows_{number:d}"


def connect(
    url: str, *, retries: int, pause: float, connect_s: int, silence_s: float, until_hung: bool = False
) -> BoundedConnection:
    """A connection that commits by itself, and closes itself where the server stops answering.

    Args:
        url: address of the database.
        retries: how often to try again where it does not answer, each time after a longer pause.
        pause: seconds before the first retry.
        connect_s: how long the server may take to accept (2 at least).
        silence_s: how long it may keep a caller waiting afterwards without a sign.
        until_hung: not to try again where it did not accept in time.

    Raises:
        OnlineStoreUnavailableError: no answer, however often it was tried.
        SettingsError: the address is none, or the client is not installed.
    """
    try:
        import psycopg

        from millrace.online.psycopg_connection import BoundedConnection
    except ImportError as error:
        raise SettingsError(
            "the online store is in PostgreSQL, whose client is not installed",
            where=show(url),
            remedy="pip install 'psycopg[binary]'",
        ) from error
    for attempt in range(retries + 1):
        try:
            link = BoundedConnection.connect(
                url, autocommit=True, connect_timeout=connect_s, application_name="millrace"
            )
        except psycopg.OperationalError as error:
            if attempt == retries or (until_hung and hung(error)):
                raise unavailable(url, error, attempts=attempt + 1) from error
            time.sleep(min(pause * 2**attempt, 2.0))
        except psycopg.ProgrammingError as error:
            raise _no_address(url, error) from None
        else:
            link.silence_s = silence_s
            return link
    raise AssertionError("unreachable")


def hung(error: BaseException | None) -> bool:
    """Whether a server gave no answer in time, where others fail at once or answer with an error."""
    import psycopg

    from millrace.online.psycopg_connection import NoAnswerError

    return isinstance(error, NoAnswerError | psycopg.errors.ConnectionTimeout)


def unavailable(url: str, error: Exception, *, attempts: int = 1) -> OnlineStoreUnavailableError:
    """What to say where PostgreSQL does not answer, or breaks off."""
    tried = f" ({attempts} attempts)" if attempts > 1 else ""
    return OnlineStoreUnavailableError(
        f"PostgreSQL does not answer as it should{tried}: {' '.join(str(error).split())}",
        where=show(url),
        remedy="see that the server runs, can be reached and lets this account in, then run again",
    )


def _no_address(url: str, error: Exception) -> SettingsError:
    """What the client says of an address it cannot read may quote it, password and all."""
    told = "" if show(url) != url else f": {' '.join(str(error).split())}"
    return SettingsError(
        f"not an address of PostgreSQL{told}", where=show(url), remedy="use postgresql://user@host/database"
    )
