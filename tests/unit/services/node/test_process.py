"""What a server that cannot start says."""

from __future__ import annotations

from pathlib import Path

import pytest

from miclip.errors import InvalidInput, NotReady
from miclip.settings import Settings
from services.node.process import _ensure_key


async def test_a_redis_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    url = "redis://user:s3cret@127.0.0.1:1/0"
    with pytest.raises(NotReady, match=r"Redis at 127\.0\.0\.1:1 \(MICLIP_REDIS_URL\)") as caught:
        await _ensure_key(Settings(redis_url=url, state_dir=tmp_path), url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://localhost:port"])
async def test_what_is_no_address_of_a_redis_is_refused_with_the_forms_of_one(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidInput, match="redis://HOST:PORT/DB"):
        await _ensure_key(Settings(redis_url=url, state_dir=tmp_path), url)
