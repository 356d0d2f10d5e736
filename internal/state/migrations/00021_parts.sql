-- +goose Up
-- The parts (partitions) of legacy's table as they were last seen, and how they have changed since
-- the migration file was applied.
CREATE TABLE migrator.parts (
    migration  text        PRIMARY KEY REFERENCES migrator.migrations (name),
    parts      jsonb       NOT NULL CHECK (jsonb_typeof(parts) = 'array'),
    changed    text        NOT NULL DEFAULT '' CHECK (length(changed) <= 500),
    changed_at timestamptz,
    CHECK ((changed_at IS NULL) = (changed = ''))
);

-- A new cause: the parts of legacy's table have changed.
ALTER TABLE migrator.history DROP CONSTRAINT history_cause_check;
ALTER TABLE migrator.history ADD CONSTRAINT history_cause_check CHECK (cause IN (
    'created', 'advance', 'rollback', 'fence', 'failure', 'config', 'evict', 'pause', 'resume', 'approve',
    'trigger', 'acknowledge', 'schedule', 'loss', 'table'));

-- note_parts notes the parts as they are now. new_changes is how they differ from those that were
-- noted, and is added to what is known; NULL: they are accepted as they are.
-- +goose StatementBegin
CREATE FUNCTION migrator.note_parts(of_migration text, new_parts jsonb, new_changes text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO migrator.parts AS p (migration, parts) VALUES (of_migration, new_parts)
    ON CONFLICT (migration) DO UPDATE SET parts = new_parts,
        changed = CASE WHEN new_changes IS NULL THEN ''
                       WHEN p.changed = '' THEN left(new_changes, 500)
                       WHEN length(p.changed) + length(new_changes) > 490 THEN left(p.changed, 490) || ' ...'
                       ELSE p.changed || '; ' || new_changes END,
        changed_at = CASE WHEN new_changes IS NOT NULL THEN clock_timestamp() END
$$;
-- +goose StatementEnd

-- Since when legacy refuses writes, as a mark that legacy gave, and when it was last found not to.
CREATE TABLE migrator.fences (
    migration text        PRIMARY KEY REFERENCES migrator.migrations (name),
    attempt   text        NOT NULL CHECK (length(attempt) <= 100),
    mark      text        NOT NULL CHECK (length(mark) <= 100),
    lost_at   timestamptz
);

-- note_fence notes the mark of an attempt's fence. Of the same attempt only a loss changes it.
-- +goose StatementBegin
CREATE FUNCTION migrator.note_fence(of_migration text, of_attempt text, new_mark text, lost boolean) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO migrator.fences AS f (migration, attempt, mark, lost_at)
    VALUES (of_migration, of_attempt, new_mark, CASE WHEN lost THEN clock_timestamp() END)
    ON CONFLICT (migration) DO UPDATE SET attempt = of_attempt, mark = new_mark, lost_at = excluded.lost_at
    WHERE lost OR f.attempt <> of_attempt
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION migrator.note_parts(text, jsonb, text), migrator.note_fence(text, text, text, boolean) FROM PUBLIC;
