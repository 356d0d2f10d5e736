package statedb

// Schema is the state database's schema.
const Schema = "migrator"

// QueueSchema is the schema of the job queue, which the queue's library migrates.
const QueueSchema = "migrator_river"
