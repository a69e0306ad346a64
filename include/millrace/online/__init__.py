"""The online store: how a row is packed, how a key is written, and readers and writers of SQLite, Redis and Postgres.

Nothing here imports Feast or pandas, and a server's client only when such a store is opened: the online service reads
by key with this alone.
"""

from millrace.online.address import open_reader, open_writer
from millrace.online.base import Found, OnlineReader, OnlineWriter, PackedRow, ViewState
from millrace.online.layout import RowCodec, ViewLayout, encode_key

__all__ = [
    "Found",
    "OnlineReader",
    "OnlineWriter",
    "PackedRow",
    "RowCodec",
    "ViewLayout",
    "ViewState",
    "encode_key",
    "open_reader",
    "open_writer",
]
