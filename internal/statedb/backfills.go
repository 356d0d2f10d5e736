package statedb

// BackfillCountsSQL is true of a backfill that has taken its barrier. One that was refused before has done nothing, and
// nothing is shown or decided by it.
const BackfillCountsSQL = `(finished_at IS NOT NULL OR progress ? 'barrier')`
