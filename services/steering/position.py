"""How far a stream of WatchPolicies has come, as clients send it back."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from miclip.errors import InvalidInput
from miclip.names import check_id

_TOKEN = re.compile(r"(\d{1,20}-\d{1,20}) (\d{1,11}\.\d{3}) (.{0,128})", re.ASCII)


@dataclass(frozen=True)
class Position:
    """How far a stream has told: a position in the change stream, a moment, and the model it is about."""

    cursor: str
    at: float
    """Seconds since the epoch; what expired before was told."""
    model: str

    def token(self) -> str:
        """The position as clients send it back."""
        return base64.urlsafe_b64encode(f"{self.cursor} {self.at:.3f} {self.model}".encode()).decode()

    @classmethod
    def parse(cls, token: str) -> Position:
        """The position of a token; raises InvalidInput for one that was not made here."""
        try:
            found = _TOKEN.fullmatch(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode())
        except (ValueError, binascii.Error):
            found = None
        if found is None:
            text = "resume_token is not one that WatchPolicies sent; leave it empty to start with all there is."
            raise InvalidInput(text, field="resume_token", allowed="the resume_token of an earlier message")
        cursor, at, model = found.groups()
        return cls(cursor, float(at), check_id(model, field="resume_token") if model else "")
