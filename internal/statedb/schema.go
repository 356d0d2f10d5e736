package statedb

const Schema = "migrator"

// The job queue has a schema of its own, which its library migrates.
const QueueSchema = "migrator_river"
