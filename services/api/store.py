"""The API's own SQL: its keys."""

from chassis.database import Pool

ADMIN_SCOPES = ["read", "write", "act", "admin"]


async def keep_admin_key(digest: bytes, pool: Pool) -> bool:
    """Store the operator's key with every scope, and revoke every other key named `admin`.

    False when the key was revoked: it stays so, and nothing else is revoked in its favour. (A replica that starts
    with the key of before must not undo a rotation.)
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            """
            INSERT INTO api.keys (name, digest, scopes) VALUES ('admin', $1, $2)
            ON CONFLICT (digest) DO UPDATE SET scopes = excluded.scopes WHERE keys.name = 'admin'
            """,
            digest,
            ADMIN_SCOPES,
        )
        # Locked: of two replicas that start with two keys, the later one sees what the other revoked.
        holds = await connection.fetchval(
            "SELECT revoked_at IS NULL FROM api.keys WHERE digest = $1 FOR UPDATE", digest
        )
        if holds:
            await connection.execute(
                """
                UPDATE api.keys SET revoked_at = now()
                 WHERE name = 'admin' AND digest <> $1 AND revoked_at IS NULL
                """,
                digest,
            )
        return bool(holds)
