"""
Tokens that change with every grant, such as a refresh token that is good for one use: kept between runs.

One file per source, owner-only, beside the configuration. It is the one place where penstock writes a token. An entry
belongs to the credentials of the configuration that it began with: other credentials begin an entry of their own.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from attrs import define

from penstock._util.clock import Clock
from penstock._util.files import exclusive, write_json
from penstock.errors import AuthenticationError, ConfigError, check_returned
from penstock.fault_points import fault_point
from penstock.model import Request, Response
from penstock.protocols import GRANT, Grant, Renewing
from penstock.redact import Secret

# The newest tokens, and those before them: a process that is killed between the provider's response and the write
# leaves used tokens in the file, which some providers accept once more.
MAX_KEPT_TOKENS = 2

LOCK_TRY_S = 0.1
LOCK_WAIT_S = 300.0


@define(eq=False, repr=False)
class TokenStore:
    """The kept tokens of one source, in the file ``path``."""

    path: Path
    clock: Clock

    def log_in(self, account: str | None, authenticator: Renewing, send: Callable[[Request], Response]) -> Grant:
        """
        A grant, made with the newest stored tokens; if they are refused, with the tokens before them; at last with the
        configured credentials. The new tokens are on the disk before the grant is returned.

        One process and thread at a time: another one waits, and then uses the tokens of this one. Raises
        AuthenticationError when everything was refused, ConfigError for a file that cannot be used, before any request.
        """
        configured = check_returned(
            authenticator.grant_request, authenticator.grant_request(), Request, "the Request(...) of the call before"
        )
        with self._hold_lock():
            store = self._read()
            key = _key(store["salt"], account, configured)
            stored: list[dict[str, str]] = store["entries"].get(key, [])
            refused: AuthenticationError | None = None
            for used in (*stored, None):
                request = configured
                if used is not None:
                    request = authenticator.renew_request({name: Secret(value) for name, value in used.items()})
                try:
                    response = send(request)
                    grant: Grant = check_returned(
                        authenticator.read_grant, authenticator.read_grant(response), Grant, GRANT
                    )
                except AuthenticationError as error:
                    refused = refused or error
                    continue
                fault_point("token.granted")
                self._keep(store, key, grant, used)
                return grant
        assert refused is not None
        if not stored:
            raise refused
        raise AuthenticationError(
            f"{refused} The tokens kept in {self.path} were refused, and so was the configured one: authorise penstock "
            "at the provider again, and write the new token into the configuration."
        ) from None

    def _keep(self, store: dict[str, Any], key: str, grant: Grant, used: Mapping[str, str] | None) -> None:
        former = [dict(used)] if used is not None else []
        newest = [{name: value.reveal() for name, value in grant.keep.items()}] if grant.keep else []
        tokens = [*newest, *(token for token in former if token not in newest)][:MAX_KEPT_TOKENS]
        # Entries of other accounts and former credentials stay, however many: each may hold the only valid token.
        if tokens:
            self._write({**store, "entries": {**store["entries"], key: tokens}})

    @contextmanager
    def _hold_lock(self) -> Iterator[None]:
        tries = int(LOCK_WAIT_S / LOCK_TRY_S)

        def wait() -> None:
            nonlocal tries
            tries -= 1
            if tries < 0:
                raise ConfigError(f"another process holds {self.path} for more than {LOCK_WAIT_S:.0f} s; end it")
            self.clock.sleep(LOCK_TRY_S)

        with ExitStack() as stack:
            try:
                missing = [folder for folder in self.path.parents if not folder.exists()]
                for folder in reversed(missing):
                    folder.mkdir(mode=0o700, exist_ok=True)
                stack.enter_context(exclusive(self.path.with_name(f"{self.path.name}.lock"), wait))
            except OSError as error:
                raise self._unusable(error) from None
            yield

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"version": 1, "salt": os.urandom(16).hex(), "entries": {}}
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.get("version") != 1:
            raise ConfigError(
                f"{self.path} is no token store of this version of penstock; move it away to begin with the configured "
                "token again"
            )
        return content

    def _write(self, store: Mapping[str, Any]) -> None:
        try:
            write_json(self.path, store)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"the token store {self.path} cannot be used: {error.strerror or error}. The provider changes its token "
            "with every grant, so it must be kept: set token_store to a file that can be written"
        )


def _key(salt: str, account: str | None, configured: Request) -> str:
    """The key of an entry: a salted hash of the account and of the request that the configured credentials make."""
    text = json.dumps([account, configured.method, configured.full_url, configured.headers], default=str)
    return hashlib.blake2b(
        text.encode() + (configured.body or b""), key=bytes.fromhex(salt), digest_size=16
    ).hexdigest()
