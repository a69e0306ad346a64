"""The model card as the bundle says it: written anew before people read it and before it is kept with the model."""

from __future__ import annotations

import logging

from millrace.document import load_document
from millrace.evaluation.evidence import evidence_folder, load_evidence
from millrace.governance.ledger import Entry
from millrace.settings import Settings

log = logging.getLogger(__name__)


def restore_card(judged: Entry, *, settings: Settings) -> None:
    """Write the card of the evidence that was judged, from the bundle and the gates' answers as the ledger names them.

    Bundle and answers lie under their digests; the card does not, so that nothing else would show that it was changed.

    Args:
        judged: the `gates_evaluated` entry; one that names no answers leaves the card as it is.
        settings: this installation.

    Raises:
        DocumentError: the bundle or the answers are gone or were changed.
    """
    from millrace.evaluation.gate import Answer
    from millrace.evaluation.model_card import render_card, store_card

    if not (named := str(judged.payload.get("verdict", ""))):
        return
    folder, digest = evidence_folder(settings), str(judged.payload["evidence"])
    answers = [Answer.model_validate(item) for item in load_document(folder, named)["answers"]]
    card = render_card(load_evidence(digest, settings), digest, answers)
    for kind, text in (("html", card.html), ("md", card.markdown)):
        path = folder / f"{digest}.{kind}"
        if not path.is_file() or path.read_bytes() != text.encode():
            log.warning("model card %s is not what its evidence says: it is written anew", path.name)
            store_card(folder, digest, card)
            return
