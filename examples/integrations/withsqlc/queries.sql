-- name: GetAccount :one
SELECT id, owner, cents, changed FROM accounts WHERE id = $1;

-- name: AddCents :one
UPDATE accounts SET cents = cents + sqlc.arg(cents), changed = sqlc.arg(changed) WHERE id = sqlc.arg(id)
RETURNING sqlc.embed(accounts), migrator_legacy.version('accounts') AS version;

-- name: PutAccount :one
INSERT INTO accounts (id, owner, cents, changed) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET owner = $2, cents = $3, changed = $4
RETURNING migrator_legacy.version('accounts') AS version;

-- name: DeleteAccount :one
DELETE FROM accounts WHERE id = $1
RETURNING migrator_legacy.version('accounts') AS version;
