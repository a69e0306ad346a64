"""The online store's bytes: how a row is packed, how a key is written, and the reader the online service uses.

Nothing here imports Feast, pandas or a database server's client: the online service reads by key with this alone.
"""

from millrace.online.layout import RowCodec, ViewLayout, encode_key
from millrace.online.reader import OnlineReader

__all__ = ["OnlineReader", "RowCodec", "ViewLayout", "encode_key"]
