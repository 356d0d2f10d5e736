-- +goose Up
-- A server that answers HTTP has one role, and acts for others: a caller's token names the role whose rights count.
-- Who calls is migrator.person(), in every function and policy that asked session_user.
ALTER TABLE migrator.grants DROP CONSTRAINT grants_kind_check;
ALTER TABLE migrator.grants ADD CONSTRAINT grants_kind_check CHECK (kind IN ('application', 'operator', 'decider', 'viewer', 'server'));

-- Of a token the SHA-256 of its SHA-256 is stored: whoever reads the table, or the server's log, has no token.
CREATE TABLE migrator.tokens (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    role       text        NOT NULL,
    hash       bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    about      text        NOT NULL CHECK (length(about) <= 200),
    created_at timestamptz NOT NULL,
    created_by text        NOT NULL,
    expires_at timestamptz NOT NULL,
    replaces   bigint      UNIQUE REFERENCES migrator.tokens,
    revoked_at timestamptz,
    revoked_by text
);

-- +goose StatementBegin
-- bearer is the token of this transaction: the setting migrator.token, which a server's session gives for the transaction
-- that does one caller's work, as the hex of the token's SHA-256. A token that is not valid ends the transaction: nothing
-- is done under the server's own rights in its place.
CREATE FUNCTION migrator.bearer() RETURNS migrator.tokens
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    given text := current_setting('migrator.token', true);
    t     migrator.tokens;
BEGIN
    IF coalesce(given, '') = '' THEN
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role WHERE g.kind = 'server' AND pg_has_role(session_user, r.oid, 'MEMBER'))
       AND NOT pg_has_role(session_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER') THEN
        RAISE EXCEPTION 'the role % has no grant of the kind server: it acts for no token; try: migrator init --grant-server %', session_user, quote_ident(session_user)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF given !~ '^[0-9a-f]{64}$' THEN
        RAISE EXCEPTION 'the token is not valid; try: a token that migrator token create has printed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT k.* INTO t FROM migrator.tokens k JOIN pg_roles r ON r.rolname = k.role
        WHERE k.hash = sha256(decode(given, 'hex')) AND k.expires_at > clock_timestamp() AND k.revoked_at IS NULL
          -- The owner's rights are not to be had by a token, also where the role became the owner's later.
          AND NOT pg_has_role(r.oid, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER');
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the token is not valid: it is unknown, has expired or was revoked; try: migrator token create' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN t;
END $$;

-- person is who calls: the token's role, or the session's.
CREATE FUNCTION migrator.person() RETURNS name
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF coalesce(current_setting('migrator.token', true), '') = '' THEN
        RETURN session_user;
    END IF;
    RETURN (migrator.bearer()).role::name;
END $$;

-- signed is evidence with what was beside its actor: the server's role and the token's number. No caller writes it.
CREATE FUNCTION migrator.signed(evidence jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE t migrator.tokens := migrator.bearer();
BEGIN
    IF jsonb_typeof(evidence) = 'object' THEN
        evidence := evidence - 'via';
    END IF;
    IF t.id IS NULL THEN
        RETURN evidence;
    END IF;
    RETURN CASE jsonb_typeof(evidence) WHEN 'object' THEN evidence ELSE '{}' END || jsonb_build_object('via', jsonb_build_object('role', session_user, 'token', t.id));
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.bearer(), migrator.person(), migrator.signed(jsonb) FROM PUBLIC;

-- +goose StatementBegin
DO $$
DECLARE
    f    record;
    body text;
BEGIN
    FOR f IN SELECT p.oid, p.proname FROM pg_proc p WHERE p.pronamespace = 'migrator'::regnamespace AND p.prosrc LIKE '%session\_user%'
             AND p.proname NOT IN ('bearer', 'person', 'signed') LOOP
        body := pg_get_functiondef(f.oid);
        IF f.proname = 'may' THEN
            -- The one that every renewal calls asks once.
            body := replace(body, E'\nBEGIN', E'\nDECLARE who name := migrator.person();\nBEGIN');
            body := replace(body, 'session_user', 'who');
        ELSE
            body := replace(body, 'session_user', 'migrator.person()');
        END IF;
        IF f.proname = 'chain_history' THEN
            body := replace(body, E'\n    NEW.prev_hash :=', E'\n    NEW.evidence := migrator.signed(NEW.evidence);\n    NEW.prev_hash :=');
        END IF;
        EXECUTE body;
    END LOOP;
END $$;
-- +goose StatementEnd
-- A role calls it by itself, and not person().
ALTER FUNCTION migrator.owns() SECURITY DEFINER;

-- +goose StatementBegin
-- create_token: the schema's owner gives a token to any role but its own, and a role gives itself one. A member of a role
-- gives that role none: two names would be two people.
CREATE FUNCTION migrator.create_token(of_role text, of_hash bytea, of_about text, lives_ms bigint, of_replaces bigint, overlap_ms bigint)
RETURNS TABLE (id bigint, role text, expires_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    old  migrator.tokens;
    made migrator.tokens;
BEGIN
    IF of_replaces IS NOT NULL THEN
        SELECT * INTO old FROM migrator.tokens k WHERE k.id = of_replaces AND (migrator.owns() OR k.role = session_user) FOR UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no token %; try: migrator token list', of_replaces USING ERRCODE = 'no_data_found';
        ELSIF EXISTS (SELECT FROM migrator.tokens k WHERE k.replaces = of_replaces) THEN
            RAISE EXCEPTION 'token % was replaced before; try: migrator token list', of_replaces USING ERRCODE = 'object_not_in_prerequisite_state';
        ELSIF old.revoked_at IS NOT NULL THEN
            RAISE EXCEPTION 'token % was revoked; try: migrator token create', of_replaces USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        of_role := old.role;
    END IF;
    IF coalesce(current_setting('migrator.token', true), '') <> '' OR NOT migrator.owns() AND of_role <> session_user THEN
        RAISE EXCEPTION 'the role % may make a token for itself alone; try: the same as the role that owns the schema', session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = of_role) THEN
        RAISE EXCEPTION 'the role "%" does not exist in the state database; try: CREATE ROLE %', of_role, quote_ident(of_role) USING ERRCODE = 'undefined_object';
    ELSIF pg_has_role(of_role::name, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER') THEN
        RAISE EXCEPTION 'the role % has the rights of the schema''s owner, which no token has; try: a role of its own, with migrator init --grant-viewer', of_role
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF (lives_ms BETWEEN 1 AND 366::bigint * 86400000) IS NOT TRUE OR (overlap_ms BETWEEN 0 AND 30::bigint * 86400000) IS NOT TRUE THEN
        RAISE EXCEPTION 'a token lasts up to 366 days, and the one that it replaces up to 30 days beside it' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO migrator.tokens (role, hash, about, created_at, created_by, expires_at, replaces)
        VALUES (of_role, of_hash, migrator.one_line(of_about, 200), clock_timestamp(), session_user, clock_timestamp() + lives_ms * interval '1 millisecond', of_replaces)
        RETURNING * INTO made;
    UPDATE migrator.tokens k SET expires_at = least(k.expires_at, clock_timestamp() + overlap_ms * interval '1 millisecond') WHERE k.id = of_replaces;
    PERFORM pg_notify('migrator', '{"tokens":true}');
    RETURN QUERY SELECT made.id, made.role, made.expires_at;
END $$;

-- revoke_token ends a token at once. To revoke one that is revoked changes nothing.
CREATE FUNCTION migrator.revoke_token(of_id bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE of_role text;
BEGIN
    SELECT k.role INTO of_role FROM migrator.tokens k
        WHERE k.id = of_id AND (migrator.owns() OR k.role = session_user) AND coalesce(current_setting('migrator.token', true), '') = '' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no token %; try: migrator token list', of_id USING ERRCODE = 'no_data_found';
    END IF;
    UPDATE migrator.tokens SET revoked_at = clock_timestamp(), revoked_by = session_user WHERE id = of_id AND revoked_at IS NULL;
    PERFORM pg_notify('migrator', '{"tokens":true}');
    RETURN of_role;
END $$;

-- list_tokens: the owner sees all, another role its own. None sees a hash.
CREATE FUNCTION migrator.list_tokens() RETURNS TABLE (id bigint, role text, about text, created_at timestamptz, created_by text, expires_at timestamptz,
    replaces bigint, revoked_at timestamptz, revoked_by text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT k.id, k.role, k.about, k.created_at, k.created_by, k.expires_at, k.replaces, k.revoked_at, k.revoked_by
        FROM migrator.tokens k WHERE migrator.owns() OR k.role = migrator.person() ORDER BY k.id;
END $$;

-- bearers are the tokens that are valid, for a server: by what they hash to, which opens nothing, and with the migrations that each
-- may see the route of. A server looks callers up in it, so that one without a token costs the state no query.
CREATE FUNCTION migrator.bearers() RETURNS TABLE (id bigint, hash bytea, role text, lives_ms bigint, migrations text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT migrator.owns() AND NOT EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
            WHERE g.kind = 'server' AND pg_has_role(session_user, r.oid, 'MEMBER')) THEN
        RAISE EXCEPTION 'the role % has no grant of the kind server; try: migrator init --grant-server %', session_user, quote_ident(session_user)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY SELECT k.id, k.hash, k.role, (extract(epoch FROM k.expires_at - clock_timestamp()) * 1000)::bigint,
            ARRAY(SELECT m.name FROM migrator.migrations m WHERE EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
                WHERE g.kind IN ('viewer', 'operator', 'decider', 'application') AND g.migration IN ('*', m.name) AND pg_has_role(o.oid, r.oid, 'MEMBER')))
        FROM migrator.tokens k JOIN pg_roles o ON o.rolname = k.role WHERE k.expires_at > clock_timestamp() AND k.revoked_at IS NULL
          AND NOT pg_has_role(o.oid, (SELECT nspowner FROM pg_namespace WHERE nspname = 'migrator'), 'MEMBER');
END $$;

-- flagged are the routes that a server publishes, of every migration: who sees which, bearers has.
CREATE FUNCTION migrator.flagged() RETURNS TABLE (migration text, phase text, percent integer, epoch bigint, shadow text, lease_ms bigint, renew_ms bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT migrator.owns() AND NOT EXISTS (SELECT FROM migrator.grants g JOIN pg_roles r ON r.rolname = g.role
            WHERE g.kind = 'server' AND pg_has_role(session_user, r.oid, 'MEMBER')) THEN
        RAISE EXCEPTION 'the role % has no grant of the kind server; try: migrator init --grant-server %', session_user, quote_ident(session_user)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN QUERY SELECT m.name, m.phase::text, m.percent, m.epoch, migrator.shadow_of(m), least(m.lease_ms, 300000), m.renew_ms FROM migrator.migrations m ORDER BY m.name;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.create_token(text, bytea, text, bigint, bigint, bigint), migrator.revoke_token(bigint), migrator.list_tokens(),
    migrator.bearers(), migrator.flagged() FROM PUBLIC;
